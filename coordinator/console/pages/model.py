"""One version: how far it has come and who leads it on, how well it does, what stands in the way, who said what of it, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from coordinator.console.downloads import asked_for, link_to
from coordinator.console.pages import model_tables as tables
from coordinator.console.pages.deploy_tables import rollouts_table, running_table
from coordinator.console.pages.model_explanations import explanation_view
from coordinator.console.pages.model_fairness import fairness_views
from coordinator.console.pages.model_figures import charts, metrics_of, metrics_table
from coordinator.console.pages.model_lineage import version_graph
from coordinator.console.pages.model_windows import WINDOWS
from coordinator.console.pages.models import TONES, models_table
from coordinator.console.reads import deployments as places
from coordinator.console.reads import models as reads
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Table
from coordinator.console.visit import Visit
from coordinator.db.engine import reading
from coordinator.deploy.monitoring.views import is_watched
from coordinator.governance.evidence.documents import EvidenceKind
from coordinator.governance.evidence.notes import notes_on
from coordinator.governance.policies.rejudge import judge_now
from coordinator.office import models as office
from coordinator.registry.approvals import ModelStanding
from coordinator.registry.explanations import explained_version
from coordinator.registry.fairness import stages_of
from coordinator.registry.lineage import lineage_of
from coordinator.registry.versions import ModelVersion, find_version
from protos.model_stages import CHAMPION, MOVES, RELEASABLE, Stage
from protos.policy_verdicts import ModelSubject
from strategies.errors import UsageError

_MODELS: Final = "covenant.control.v1.Models/"
_DEPLOYMENTS: Final = "covenant.deploy.v1.Deployments/"
VALIDATE: Final = f"{_MODELS}ValidateModel"
NAME: Final = f"{_MODELS}NameModel"
MOVE: Final = f"{_MODELS}MoveModel"
START: Final = f"{_DEPLOYMENTS}StartRollout"
RECALL: Final = f"{_DEPLOYMENTS}RecallModel"
_LISTED: Final = f"{_DEPLOYMENTS}ListRunning"
_MOST_SIGHT: Final = 100_000
_WHO: Final[Mapping[Stage, str]] = {
    Stage.VALIDATED: "Model risk or an engineer has the gate judge it; it passes or it does not.",
    Stage.APPROVED: "A privacy officer and a model risk officer approve it, each with their own key; neither wrote the plan.",
    Stage.DEPLOYED: "An engineer starts a rollout; once a target confirms that it serves, it is deployed.",
    Stage.RETIRED: "A privacy officer or model risk retires it. It is recalled from wherever it runs, and does not come back.",
    Stage.QUARANTINED: "A privacy officer or model risk quarantines it. It is recalled from wherever it runs; what leaves quarantine is a candidate again.",
    Stage.CANDIDATE: "A privacy officer or model risk lets it out of quarantine; it is validated and approved anew.",
}
_NEXT: Final[Mapping[Stage, Stage]] = {
    Stage.CANDIDATE: Stage.VALIDATED,
    Stage.VALIDATED: Stage.APPROVED,
    Stage.APPROVED: Stage.DEPLOYED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a page showed of a version when somebody decided: its stage, where it runs, and what its aliases name."""

    stage: str
    targets: tuple[str, ...]
    aliases: tuple[str, ...]

    @classmethod
    def of(cls, visit: Visit, version: ModelVersion) -> Sight:
        """What is so now."""
        targets = reads.would_recall(visit.centre.engine, version.name, version.version)
        return cls(stage=str(version.stage), targets=targets, aliases=version.aliases)

    @classmethod
    def sent(cls, text: str) -> Sight:
        """What came back with a form. Raises UsageError."""
        try:
            found = json.loads(text[:_MOST_SIGHT])
            stage, targets, aliases = found["stage"], found["targets"], found["aliases"]
            lists = [tuple(map(str, each)) for each in (targets, aliases) if isinstance(each, list)]
            return cls(stage=str(stage), targets=lists[0], aliases=lists[1])
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise UsageError("this form does not say what its page showed; open the page again") from error

    @property
    def text(self) -> str:
        """For a form."""
        return json.dumps({"stage": self.stage, "targets": self.targets, "aliases": self.aliases})

    def changes(self, before: Sight) -> Sequence[str]:
        """What differs from `before`, in sentences."""
        found = []
        if self.stage != before.stage:
            found.append(f"It was {before.stage} and is {self.stage} now.")
        for word, now, then in (
            ("runs at", self.targets, before.targets),
            ("is called", self.aliases, before.aliases),
        ):
            if now != then:
                found.append(
                    f"It {word} {', '.join(now) or 'nothing'}; before it was {', '.join(then) or 'nothing'}."
                )
        return found


def show(visit: Visit) -> Response:
    """The page of a version; of an alias or a bare name it leads to the version."""
    version = find_version(visit.centre.engine, visit.path["model"])
    if visit.path["model"] != version.ref:
        query = f"?{urlencode(visit.query)}" if visit.query else ""
        return visit.go(f"/models/{version.ref}{query}")
    return page_of(visit, version)


def page_of(visit: Visit, version: ModelVersion, *, changed: Sequence[str] = ()) -> Response:
    """The page; with `changed`, what is otherwise than the page showed from which somebody decided."""
    standing = office.standing(visit.centre, version.ref)
    shown = _tables(visit, standing)
    rows = reads.page(visit.centre.engine, name=version.name).rows
    plan = lineage_of(visit.centre, version, entries=False)
    fair = fairness_views(stages_of(visit.centre.engine, version.name, version.version, version.released))
    shown |= {each.name: each for view in fair for each in view.tables}
    explained = explanation_view(explained_version(visit.centre.engine, version))
    shown |= {each.name: each for each in (explained.tables if explained else ())}
    shown["siblings"] = models_table("siblings", f"Versions of {version.name}", rows, empty="There are none.")
    return asked_for(visit, shown.values()) or visit.page(
        "model.html",
        status=409 if changed else 200,
        changed=changed,
        version=version,
        tone=TONES[version.stage],
        facts=_facts(version, standing, plan.plan.name, plan.plan.digest),
        steps=_steps(version, standing),
        sight=Sight.of(visit, version),
        charts=charts(metrics_of(version.metrics)),
        explained=explained,
        fairness=fair,
        watched=visit.may(WINDOWS) and is_watched(visit.centre.engine, version.name, version.version),
        tables=shown,
        csv={name: link_to(visit, each) for name, each in shown.items()},
        graph=version_graph(visit, plan),
        others=[each.ref for each in rows if each.ref != version.ref],
        champion=next(
            (each.ref for each in rows if CHAMPION in each.aliases and each.ref != version.ref), None
        ),
        participants=plan.participants,
        documents=_DOCUMENTS,
        may=_may(visit, version),
    )


_DOCUMENTS: Final = (
    (EvidenceKind.CARD, "Model card"),
    (EvidenceKind.DOSSIER, "Validation dossier"),
    (EvidenceKind.PRIVACY, "Privacy statement"),
)


def _tables(visit: Visit, standing: ModelStanding) -> dict[str, Table]:
    version, engine = standing.version, visit.centre.engine
    place = version.name, version.version
    stage = _NEXT.get(version.stage, version.stage)
    with reading(engine, f"reading what is said of {version.ref}") as session:
        notes = notes_on(session, *place)
    subject = ModelSubject(name=version.name, version=version.version)
    found = [
        metrics_table(metrics_of(version.metrics), "Champion"),
        tables.gates_table(reads.last_verdict(engine, *place)),
        tables.policies_table(judge_now(visit.centre, subject, stage), stage),
        tables.approvals_table(standing),
        tables.notes_table(notes),
        tables.files_table(version),
        tables.moves_table(reads.moves_of(engine, *place)),
    ]
    if visit.may(_LISTED):
        found.append(running_table(places.running_of(engine, *place), "Where it runs"))
        found.append(rollouts_table(places.rollouts(engine, of=place)[0], caption="Its rollouts"))
    return {each.name: each for each in found}


def _facts(
    version: ModelVersion, standing: ModelStanding, plan: str, digest: str
) -> Sequence[tuple[str, Cell]]:
    author = None if standing.subject is None else standing.subject.author
    until = min((each.expires for each in standing.statements), default=None)
    return (
        ("Run", Cell(version.run_id, href=f"/runs/{version.run_id}")),
        ("Plan", Cell(plan, href=f"/plans/{digest}")),
        ("Plan's author", Cell(author)),
        ("Registered", Cell(version.created_at)),
        ("Approvals good until", Cell(until)),
        ("Registry digest", Cell(version.digest, text=version.digest[:12], code=True)),
        ("Signature", Cell("signed", tone="good") if version.signature else Cell("not signed", tone="warn")),
        ("Personalised at", Cell(", ".join(version.personal) or None)),
    )


def _steps(version: ModelVersion, standing: ModelStanding) -> Sequence[tuple[Stage, str, str]]:
    """The stages that the version can come to from here, how, and who is awaited."""
    awaited = "; ".join(
        f"{each.role.words}: {', '.join(each.could) or 'nobody on the list can'}" for each in standing.missing
    )
    return [
        (each, _WHO[each], awaited if each is Stage.APPROVED and version.stage is Stage.VALIDATED else "")
        for each in MOVES[version.stage]
    ]


def _may(visit: Visit, version: ModelVersion) -> Mapping[str, Any]:
    """What whoever looks is offered: what their roles let them do, and the version's stage."""
    moves = MOVES[version.stage]
    mover = visit.may(MOVE)
    return {
        "validate": visit.may(VALIDATE) and version.stage in {Stage.CANDIDATE, Stage.VALIDATED},
        "approve": visit.may(f"{_MODELS}ApproveModel") and version.stage is Stage.VALIDATED,
        "start": visit.may(START) and version.stage in RELEASABLE,
        "name": visit.may(NAME) and version.stage not in {Stage.QUARANTINED, Stage.RETIRED},
        "quarantine": mover and Stage.QUARANTINED in moves,
        "retire": mover and Stage.RETIRED in moves,
        "release": mover and Stage.CANDIDATE in moves,
        "recall": visit.may(RECALL),
    }


ROUTES: Final = (Route("/models/{model}", show, f"{_MODELS}GetModel"),)
