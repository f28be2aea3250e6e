"""Evidence on a version: every figure has its entries, all forms say the same, what is missing is said, and nothing in a name becomes markup."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from coordinator.db import writing
from coordinator.deploy.gate import validate
from coordinator.deploy.targets.settings import EdgeSettings
from coordinator.governance.evidence import forms
from coordinator.governance.evidence.charts import bars, lines, ticks
from coordinator.governance.evidence.content import EvidenceDocument, _block, _Sources, ranges, table
from coordinator.governance.evidence.documents import EvidenceKind, document
from coordinator.governance.evidence.facts import fact, one_line
from coordinator.governance.evidence.forms import Form, markdown, pages, written
from coordinator.governance.evidence.notes import record
from coordinator.governance.evidence.story import Story, Told, read_entries, read_export
from coordinator.governance.evidence.write import story_here, story_in, write_evidence
from coordinator.governance.exports import export_log
from coordinator.governance.policies.packs import publish as publish_pack
from coordinator.governance.policies.rejudge import take_effect
from coordinator.office import deployments
from coordinator.office.actors import here
from coordinator.registry.publish import publish
from coordinator.registry.stages import move
from protos.log_audit import AuditRefused
from protos.log_entries import LogEntry, ModelRegistered
from protos.log_run_events import RoundEvaluated
from protos.membership import Role
from protos.model_notes import ModelNote, NoteKind, state_note
from protos.model_stages import Stage
from protos.rollouts import Full
from strategies.encoding import canonical_json, digest_of
from strategies.errors import Refused, UsageError
from tests.coordinator.champion_for_tests import with_champion
from tests.coordinator.deploy_for_tests import MANUAL, Works
from tests.coordinator.gate_for_tests import gated
from tests.coordinator.private_for_tests import Templates, private_plan, templates
from tests.coordinator.registry_for_tests import NAME, Registry
from tests.coordinator.secure_for_tests import FOUR, Template, secure_plan
from tests.coordinator.test_champion_rounds import EXEMPT
from tests.coordinator.test_log_export import log_of, pinned_by
from tests.coordinator.test_replay import require_same
from tests.policies_for_tests import pack, rule, signed
from tests.trust_for_tests import key_of

__all__ = ["templates"]
HOSTILE = "Not for pricing.\n<script>alert(1)</script> #1 *x* | _y_ [z](w) `q` $m$ @r\n- ends here"
STATED = "'limitations' in model.statements"
PURPOSE = "Ranking of loan applications by the chance of default."
ALL_FORMS = [pytest.param(form, id=form) for form in Form]


@dataclass
class Evidenced:
    """A federation with a version, and its story as the database tells it."""

    registry: Registry
    story: Story

    def documents(self) -> Iterator[EvidenceDocument]:
        return (document(self.story, kind) for kind in EvidenceKind)


def state(registry: Registry, kind: NoteKind, text: str, name: str, role: Role) -> ModelNote:
    federation, version = registry.federation, registry.version
    said = state_note(
        kind,
        text,
        name,
        role,
        key_of(name),
        model=(NAME, 1, version.digest),
        federation=registry.listed.trusted.federation,
        at=federation.clock.wall(),
    )
    record(federation.centre, said, registry.listed)
    return said


def put_in_force(registry: Registry, version: int) -> None:
    """A pack of a rule that passes, one that fails, and one that asks for a note."""
    rules = (
        rule(id="few-rounds"),
        rule(id="many-sites", applies_to="model", expression="run.fewest_survivors >= 9", severity="warning"),
        rule(id="limits-stated", applies_to="model", expression=STATED, severity="warning"),
    )
    centre = registry.federation.centre
    made = signed(
        pack(*rules, version=version), centre.clock(), federation=registry.listed.trusted.federation
    )
    publish_pack(centre, made, registry.listed)
    take_effect(centre)


@pytest.fixture(scope="module")
def bare(templates: Templates) -> Iterator[Evidenced]:
    """A version that was registered and no more, with noise on everything."""
    registry = Registry.of(templates.copy(private_plan()))
    yield Evidenced(registry, story_here(registry.federation.centre, NAME))
    registry.federation.close()


@pytest.fixture(scope="module")
def decided(templates: Templates) -> Iterator[Evidenced]:
    """A version that was judged, validated and approved, with notes of which one was superseded. Nobody changes it."""
    registry = Registry.of(templates.copy(private_plan(gated("[{metric: auc, at_least: 0.05}]", EXEMPT))))
    centre = registry.federation.centre
    put_in_force(registry, 1)
    validate(centre, registry.version, why="the quarter is over", by="risk-1")
    state(registry, NoteKind.LIMITATIONS, "None that we know.", "risk-1", Role.MODEL_RISK)
    state(registry, NoteKind.LIMITATIONS, HOSTILE, "risk-1", Role.MODEL_RISK)
    state(registry, NoteKind.PURPOSE, PURPOSE, "engineer-1", Role.ML_ENGINEER)
    state(
        registry,
        NoteKind.OVERSIGHT,
        "Two people look at every tenth refusal.",
        "privacy-1",
        Role.PRIVACY_OFFICER,
    )
    put_in_force(registry, 2)
    registry.approve("privacy-1", Role.PRIVACY_OFFICER)
    registry.approve("risk-1", Role.MODEL_RISK)
    yield Evidenced(registry, story_here(centre, NAME))
    registry.federation.close()


@pytest.fixture(scope="module")
def unprotected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidenced]:
    """A version of a plan without privacy, evaluated after every round."""
    folder = tmp_path_factory.mktemp("unprotected")
    federation = Template(folder, FOUR).copy(folder / "copy", secure_plan(rounds=3, every=1))
    publish(federation.centre, federation.documents, federation.drive())
    federation.store.finish("completed")
    registry = Registry(federation)  # type: ignore[arg-type]  (it has no ledger, and none is asked for)
    yield Evidenced(registry, story_here(federation.centre, "secure"))
    federation.close()


@pytest.fixture(scope="module")
def deployed(templates: Templates) -> Iterator[Evidenced]:
    """A version that came to serve, was quarantined for words that are hostile, and was recalled."""
    registry = Registry.of(templates.copy(private_plan(gated("[{metric: auc, at_least: 0.05}]", EXEMPT))))
    centre = registry.federation.centre
    home = centre.settings.home
    key_of("artifacts").save(centre.settings.release_key_file)
    works = Works(home, centre)
    validate(centre, registry.version, why="the quarter is over", by="risk-1")
    registry.approve("privacy-1", Role.PRIVACY_OFFICER)
    registry.approve("risk-1", Role.MODEL_RISK)
    what = deployments.Start(
        name=NAME, version=1, target="branch", step=Full(), rules=MANUAL, why="<b>first</b> | try"
    )
    with works.serving():
        works.add(
            "elsewhere", EdgeSettings(outbox=f"{home}/out", inbox=f"{home}/in", key=key_of("branch").public)
        )
        deployments.start(centre, here(), what)
        works.drive("branch")
        with writing(centre.engine, "moving") as session:
            move(session, NAME, 1, Stage.QUARANTINED, why=HOSTILE, by="risk-1", at=centre.clock())
        works.drive("branch")
    yield Evidenced(registry, story_here(centre, NAME))
    registry.federation.close()


@pytest.fixture(scope="module", params=["bare", "decided", "unprotected", "deployed"])
def evidenced(request: pytest.FixtureRequest) -> Evidenced:
    found: Evidenced = request.getfixturevalue(request.param)
    return found


def facts_of(story: Story, kind: EvidenceKind) -> dict[str, Any]:
    return {each.name: each for each in document(story, kind).facts()}


def entries_of(registry: Registry) -> list[Any]:
    return [LogEntry.from_canonical(each.body) for each in log_of(registry.federation).entries()]


# --- figures and where they come from ---------------------------------------------------------------------------------------


def test_every_fact_is_in_the_entries_that_it_names(evidenced: Evidenced) -> None:
    log = entries_of(evidenced.registry)
    for one in evidenced.documents():
        view = one.view()
        assert view["facts"]
        told = {each["entry"]: each["kind"] for each in view["entries"]}
        for each in one.facts():
            assert each.entries
            for place in each.entries:
                assert log[place].what.kind == told[place]
            if (
                each.derived is None
                and isinstance(each.value, str)
                and re.fullmatch("[0-9a-f]{64}", each.value)
            ):
                bodies = b"".join(log[place].canonical for place in each.entries)
                own = [getattr(log[place].what, "note", None) for place in each.entries]
                own += [getattr(log[place].what, "verdict", None) for place in each.entries]
                assert each.value.encode() in bodies or each.value in {note.digest for note in own if note}


def test_the_figures_are_those_of_the_log(bare: Evidenced) -> None:
    log = entries_of(bare.registry)
    card = facts_of(bare.story, EvidenceKind.CARD)
    (evaluated,) = [each.what for each in log if each.what.kind == "evaluated"]
    for key in ("auc", "ks", "brier", "log_loss"):
        assert card[f"metrics.{key}"].value == evaluated.metrics[key]
        assert log[card[f"metrics.{key}"].entries[0]].what == evaluated
    assert card["metrics.rows"].value == evaluated.metrics["rows"]
    assert "with noise" in card["metrics.rows"].label
    assert card["run.rounds"].value == 2
    assert card["run.participants"].shown == "east, north, south, west"
    statement = facts_of(bare.story, EvidenceKind.PRIVACY)
    accounts = bare.registry.federation.ledger.accounts()
    for each in accounts:
        name = f"accounts.{each.key.words}"
        assert statement[f"{name}.sums"].value == 4
        # The run was alone on its accounts, and gave back what it had not used.
        assert statement[f"{name}.alone"].value == pytest.approx(statement[f"{name}.charged"].value)
        assert statement[f"{name}.charged"].value == pytest.approx(each.spent.epsilon)
        assert statement[f"{name}.ceiling"].value == each.ceiling.epsilon
    assert len(accounts) == 4


def test_a_dossier_has_what_was_decided(decided: Evidenced) -> None:
    dossier = facts_of(decided.story, EvidenceKind.DOSSIER)
    assert dossier["model.stage"].value == "approved"
    assert dossier["gate.passed"].value is True
    assert dossier["gates.1.asked"].shown == "auc at least 0.05"
    officers = {
        fact.shown
        for name, fact in dossier.items()
        if name.startswith("approvals.") and name.endswith("officer")
    }
    assert officers == {"privacy-1", "risk-1"}
    outcomes = {fact.shown for name, fact in dossier.items() if name.endswith("many-sites.outcome")}
    assert outcomes == {"fails"}
    stated = [each.shown for name, each in dossier.items() if name.endswith("limits-stated.outcome")]
    assert stated == ["passes"]
    moves = [fact.shown for name, fact in dossier.items() if re.fullmatch(r"moves\.\d+\.to", name)]
    assert moves == ["candidate to validated", "validated to approved"]
    assert "it supersedes 1 older" in dossier["notes.limitations"].shown


def test_what_is_missing_is_said_and_by_name(bare: Evidenced, decided: Evidenced) -> None:
    lacks = {each.what: each.supply for each in document(bare.story, EvidenceKind.DOSSIER).missing()}
    for what in (
        "Intended purpose",
        "Validation opinion",
        "A verdict of the gate",
        "Approvals of the version",
    ):
        assert what in lacks
    assert lacks["Limitations"].endswith("covenant model state private@1 --kind limitations")
    for kind in EvidenceKind:
        names = {each.what for each in document(decided.story, kind).missing()}
        assert not names & {
            "Intended purpose",
            "Limitations",
            "Oversight",
            "A verdict of the gate",
            "Approvals of the version",
        }
    assert "Validation opinion" in {
        each.what for each in document(decided.story, EvidenceKind.DOSSIER).missing()
    }
    assert "Metrics by group of people" in {
        each.what for each in document(decided.story, EvidenceKind.CARD).missing()
    }


def test_a_dossier_has_where_the_version_ran_and_its_recall(deployed: Evidenced, decided: Evidenced) -> None:
    for kind in (EvidenceKind.CARD, EvidenceKind.DOSSIER):
        facts = facts_of(deployed.story, kind)
        by_end = {
            end: [each.shown for name, each in facts.items() if re.fullmatch(rf"{end}", name)]
            for end in (
                r"rollouts\..*\.target",
                r"rollouts\..*\.state",
                r"orders\.\d+\.why",
                r"confirmed\.\d+\.state",
                r"recalls\.\d+\.why",
            )
        }
        assert list(by_end.values())[:2] == [["branch"], ["recalled"]]
        assert "<b>first</b> | try" in by_end[r"orders\.\d+\.why"]
        assert by_end[r"confirmed\.\d+\.state"] == ["full", "recalled"]
        assert by_end[r"recalls\.\d+\.why"] == [one_line(HOSTILE)]
        assert [name for name in facts if re.fullmatch(r"recalls\.\d+\.confirmed", name)]
        assert not any(each.shown == "elsewhere" for each in facts.values())
    told = {each.what.kind for each in deployed.story.told}
    assert told >= {"target-added", "deployed", "rollout-moved", "recalled", "recall-confirmed"}
    nowhere = document(decided.story, EvidenceKind.DOSSIER)
    assert "no order that brought this version anywhere" in json.dumps(nowhere.view())


def test_a_champion_stands_beside_the_version_in_all_forms(unprotected: Evidenced) -> None:
    """A log with one takes a second run; here the champion is put into what the log told."""
    story = unprotected.story
    plan = with_champion(story.plan)
    told = list[Told]()
    for each in story.told:
        what = each.what
        if isinstance(what, RoundEvaluated) and what.metrics is not None:
            theirs = {key: value for key, value in what.metrics.items() if key != "champion"} | {"auc": 0.5}
            what = what.model_copy(update={"metrics": what.metrics | {"champion": theirs}})
        told.append(replace(each, what=what))
    one = document(replace(story, plan=plan, told=tuple(told)), EvidenceKind.CARD)
    facts = {each.name: each for each in one.facts()}
    ours = facts["metrics.auc"].value
    assert isinstance(ours, float)
    assert (facts["metrics.auc.ours"].value, facts["metrics.auc.champion"].value) == (ours, 0.5)
    assert facts["metrics.auc.difference"].value == pytest.approx(ours - 0.5)
    for form in Form:
        text = shown_by(one, form)
        assert "Beside older@1, on the same rows" in text, form
        for key in ("auc", "ks", "brier", "log_loss"):
            for end in ("ours", "champion", "difference"):
                assert plain(facts[f"metrics.{key}.{end}"].shown) in text, (form, key, end)
    assert "A comparison with a champion on the same rows" not in {each.what for each in one.missing()}


def test_no_line_of_others_begins_a_line_of_a_document() -> None:
    assert fact("x", "a\n# b", 1, (0,)).label == "a # b"
    assert fact("x", "a", "b\n\n- c", (0,)).shown == "b - c"
    rows = _block(table("t", ("a",), [["file\n\n# heading"]]), _Sources(None))["rows"]  # type: ignore[arg-type]
    assert rows == [[{"shown": "file # heading", "source": None}]]


def test_a_stage_without_noise_is_named(decided: Evidenced, bare: Evidenced) -> None:
    assert facts_of(decided.story, EvidenceKind.PRIVACY)["releases.evaluate.alone"].shown == "exempt"
    exempt = facts_of(decided.story, EvidenceKind.PRIVACY)
    assert exempt["privacy.exempt"].shown == "evaluation"
    assert exempt["privacy.forecast"].shown.endswith("without the exempt evaluation, whose ε is unbounded")
    card = facts_of(decided.story, EvidenceKind.CARD)
    assert "±" not in card["metrics.auc"].shown
    assert card["metrics.rows"].label == "Held-out rows"
    assert "±" in facts_of(bare.story, EvidenceKind.CARD)["metrics.auc"].shown
    assert "exemption by name" in facts_of(bare.story, EvidenceKind.PRIVACY)["unprotected.1"].shown


def test_without_privacy_no_figure_protects_and_every_round_is_drawn(unprotected: Evidenced) -> None:
    statement = document(unprotected.story, EvidenceKind.PRIVACY)
    facts = {each.name: each for each in statement.facts()}
    assert facts["privacy.mode"].value == "none"
    assert not {name for name in facts if name.startswith("accounts.")}
    assert "nothing protects a person's rows" in facts["privacy.words"].shown
    assert facts["releases.train.alone"].shown == "ε unbounded"
    assert "Any figure of differential privacy" in {each.what for each in statement.missing()}
    card = document(unprotected.story, EvidenceKind.CARD)
    aucs = [each.value for each in card.facts() if re.fullmatch(r"rounds\.\d+\.auc", each.name)]
    assert len(aucs) == 3
    drawn = [
        block["title"]
        for section in card.view()["sections"]
        for block in section["blocks"]
        if block["type"] == "chart"
    ]
    assert drawn == ["Calibration: share of positives by mean score", "AUC by round"]


def test_a_fact_from_nowhere_is_refused() -> None:
    with pytest.raises(UsageError, match="the fact x comes from no entry of the log"):
        fact("x", "X", 1, ())


# --- one document, four forms -------------------------------------------------------------------------------------------------


class _Text(HTMLParser):
    """What a reader of a page sees, without sources, and the elements that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self._in_source = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._in_source = self._in_source or tag == "sup"
        found = dict(attrs)
        if found.get("id"):
            self.ids.add(str(found["id"]))
        self.links += [str(found[name]) for name in ("href", "src", "action") if found.get(name)]
        assert not any(name.startswith("on") for name in found)

    def handle_endtag(self, tag: str) -> None:
        if tag == "sup":
            self._in_source = False

    def handle_data(self, data: str) -> None:
        if not self._in_source:
            self.parts.append(data)


def read_html(data: bytes) -> _Text:
    found = _Text()
    found.feed(data.decode())
    return found


def plain(text: str) -> str:
    return " ".join(text.replace("\u200b", "").split())


def shown_by(one: EvidenceDocument, form: Form) -> str:
    """What people read in a form. Of the PDF: what typst makes of the very template and view as text."""
    match form:
        case Form.JSON:
            view = json.loads(written(one, form))
            return plain(
                json.dumps([view["sections"], view["missing"]], ensure_ascii=False).replace('\\"', '"')
            )
        case Form.MARKDOWN:
            text = re.sub(r"\[\^\d+\]", "", written(one, form).decode())
            return plain(re.sub(r"\\([^a-zA-Z0-9\s])", r"\1", text))
        case Form.HTML:
            return plain("".join(read_html(written(one, form)).parts))
        case Form.PDF:
            return plain("".join(read_html(_as_text(one)).parts))


def _as_text(one: EvidenceDocument) -> bytes:
    import typst

    template = Path(forms.__file__).parent / "templates" / "evidence.typ"
    found = typst.compile(template.read_bytes(), format="html", sys_inputs={"view": json.dumps(one.view())})
    assert isinstance(found, bytes)
    return found


@pytest.mark.parametrize("form", ALL_FORMS)
def test_all_forms_show_the_same_figures(evidenced: Evidenced, form: Form) -> None:
    for one in evidenced.documents():
        text = shown_by(one, form)
        for each in one.facts():
            assert plain(each.shown) in text, (one.kind, form, each.name)
        for lack in one.missing():
            assert lack.what in text
            assert plain(lack.supply) in text


def test_json_has_the_value_behind_each_figure(bare: Evidenced) -> None:
    for one in bare.documents():
        view = json.loads(written(one, Form.JSON))
        assert {each["name"]: each["value"] for each in view["facts"]} == {
            each.name: each.value for each in one.facts()
        }
        numbers = {each["number"] for each in view["sources"]}
        cells = re.findall(r'"source": (\d+)', json.dumps(view))
        assert {int(each) for each in cells} == numbers


def test_html_runs_nothing_asks_for_nothing_and_its_sources_are_there(evidenced: Evidenced) -> None:
    for one in evidenced.documents():
        text = written(one, Form.HTML).decode()
        # Every element is closed, so that no browser has to guess.
        ET.fromstring(re.sub(r"<(meta|link)([^>]*)>", r"<\1\2/>", text.removeprefix("<!doctype html>")))
        page = read_html(text.encode())
        assert not page.tags & {"script", "iframe", "img", "object", "embed", "form", "foreignobject"}
        assert all(each == "data:," or each.removeprefix("#") in page.ids for each in page.links)
        assert len(page.links) > 10


def test_what_others_wrote_is_no_markup(decided: Evidenced) -> None:
    for kind in (EvidenceKind.CARD, EvidenceKind.DOSSIER):
        one = document(decided.story, kind)
        html = written(one, Form.HTML).decode()
        assert "<script" not in html
        for line in HOSTILE.split("\n"):
            assert line in unescape(html)
            assert line in "\n".join(read_html(_as_text(one)).parts) + written(one, Form.JSON).decode()
        marked = written(one, Form.MARKDOWN).decode()
        assert (
            "> \\<script\\>alert(1)\\</script\\> \\#1 \\*x\\* \\| \\_y\\_ \\[z\\](w) \\`q\\` \\$m\\$ @r"
            in marked
        )
        assert "> \\- ends here" in marked


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("1. a", "1\\. a"),
        ("0.74", "0.74"),
        ("- a", "\\- a"),
        ("a|b", "a\\|b"),
        ("# a", "\\# a"),
        ("a\\", "a\\\\"),
    ],
)
def test_markdown_of_a_name_is_the_name(text: str, escaped: str) -> None:
    assert markdown(text) == escaped


def test_a_pdf_is_tagged_and_equal_documents_give_equal_bytes(decided: Evidenced) -> None:
    one = document(decided.story, EvidenceKind.CARD)
    again = document(story_here(decided.registry.federation.centre, NAME), EvidenceKind.CARD)
    for form in Form:
        assert written(one, form) == written(again, form)
    pdf = written(one, Form.PDF)
    assert pdf.startswith(b"%PDF-")
    assert b"/StructTreeRoot" in pdf or b"pdfuaid" in pdf
    assert all(each.startswith(b"\x89PNG") for each in pages(one, 40))


def test_no_form_passes_a_verdict_on_laws(evidenced: Evidenced) -> None:
    for one in evidenced.documents():
        for form in (Form.JSON, Form.MARKDOWN, Form.HTML):
            assert b"complian" not in written(one, form).lower()
        assert b"complian" not in _as_text(one).lower()


# --- other logs ----------------------------------------------------------------------------------------------------------------


def test_an_export_gives_the_same_documents_to_whoever_has_the_root(
    decided: Evidenced, tmp_path: Path
) -> None:
    federation, file = decided.registry.federation, tmp_path / "log.jsonl"
    export_log(log_of(federation), "demo", file)
    pinned = pinned_by(federation)
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(federation.centre.artifacts.get(decided.story.model.artifacts["model.onnx"]))
    for word in ("", "@1"):
        story = story_in(file, pinned, None, f"{NAME}{word}", onnx)
        assert (
            document(story, EvidenceKind.DOSSIER).view()
            == document(decided.story, EvidenceKind.DOSSIER).view()
        )
    for model, reason in (
        (f"{NAME}@2", "tells of no model"),
        (f"{NAME}@champion", "one of its aliases: none"),
        ("x", "no model x"),
    ):
        with pytest.raises(UsageError, match=reason):
            story_in(file, pinned, None, model)
    with pytest.raises(UsageError, match="cannot be read"):
        story_in(tmp_path / "none", pinned, None, NAME)


def test_which_way_features_move_scores_comes_from_the_very_file(bare: Evidenced, tmp_path: Path) -> None:
    federation, file = bare.registry.federation, tmp_path / "log.jsonl"
    export_log(log_of(federation), "demo", file)
    told = {
        name: each
        for name, each in facts_of(bare.story, EvidenceKind.CARD).items()
        if name.endswith(".direction")
    }
    assert len(told) == len(bare.story.plan.features)
    assert {each.entries for each in told.values()} == {bare.story.places(ModelRegistered)}
    assert any(
        re.match(r"a higher \w+ (raises|lowers) the score, by [+-]", each.shown) for each in told.values()
    )
    alone = story_in(file, pinned_by(federation), None, NAME)
    assert not any(name.endswith(".direction") for name in facts_of(alone, EvidenceKind.CARD))
    lacks = "Which way each feature moves scores"
    assert lacks in {each.what for each in document(alone, EvidenceKind.CARD).missing()}
    assert lacks not in {each.what for each in document(bare.story, EvidenceKind.CARD).missing()}
    other = tmp_path / "other.onnx"
    other.write_bytes(b"another model")
    with pytest.raises(Refused, match="take the one that `covenant model export` writes"):
        story_in(file, pinned_by(federation), None, NAME, other)
    with pytest.raises(UsageError, match="cannot be read"):
        story_in(file, pinned_by(federation), None, NAME, tmp_path / "none")


def test_a_log_that_was_changed_gives_no_evidence(decided: Evidenced, tmp_path: Path) -> None:
    federation, file = decided.registry.federation, tmp_path / "log.jsonl"
    export_log(log_of(federation), "demo", file)
    head, *entries = file.read_bytes().splitlines(keepends=True)
    place = next(number for number, each in enumerate(entries) if b'"kind":"evaluated"' in each)
    better = re.sub(rb'"auc":0\.\d+', b'"auc":0.999', entries[place])
    assert better != entries[place]
    file.write_bytes(b"".join([head, *entries[:place], better, *entries[place + 1 :]]))
    with pytest.raises(Refused, match=r"is judged by model\.metrics"):
        read_export(file, pinned_by(federation))
    file.write_bytes(b"".join([head, *entries[:-1]]))
    with pytest.raises(Refused, match="entries were changed, added or removed"):
        read_export(file, pinned_by(federation))
    bodies = [each.body for each in log_of(federation).entries()]
    forged = bodies[-1].replace(b'"to":"approved"', b'"to":"deployed"')
    with pytest.raises(AuditRefused):
        read_entries([*bodies[:-1], forged], pinned_by(federation))


def test_notes_are_replayed_and_policies_judge_by_them(decided: Evidenced, tmp_path: Path) -> None:
    federation = decided.registry.federation
    require_same(federation, str(tmp_path))
    judged = [
        each.what.judgement
        for each in entries_of(decided.registry)
        if each.what.kind == "judged" and each.what.judgement.subject.of == "model"
    ]
    assert [each.outcomes()["limits-stated"] for each in judged] == ["fails", "fails", "passes", "passes"]
    bodies = [each.body for each in log_of(federation).entries()]
    place = max(seq for seq, body in enumerate(bodies) if b'"model.statements":["limitations"' in body)
    entry = json.loads(bodies[place])
    judgement = entry["what"]["judgement"]
    judgement["facts"]["model.statements"].append("validation-opinion")
    judgement["inputs"] = digest_of(judgement["facts"])
    with pytest.raises(AuditRefused, match=r"model\.statements"):
        read_entries([*bodies[:place], canonical_json(entry)], pinned_by(federation))


def test_a_note_that_is_handed_in_again_changes_nothing(templates: Templates) -> None:
    registry = Registry.of(templates.copy(private_plan()))
    said = state(registry, NoteKind.MONITORING, "Every month.", "risk-1", Role.MODEL_RISK)
    size = log_of(registry.federation).size()
    record(registry.federation.centre, said, registry.listed)
    assert log_of(registry.federation).size() == size
    with pytest.raises(Refused, match="note or key was changed"):
        record(registry.federation.centre, said.model_copy(update={"text": "Never."}), registry.listed)
    assert log_of(registry.federation).size() == size
    registry.federation.close()


def test_files_are_new_and_all_there(bare: Evidenced, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    made = write_evidence(bare.story, folder)
    assert sorted(each.name for each in made) == sorted(
        f"{kind}.{form}" for kind in EvidenceKind for form in Form
    )
    before = {each: each.read_bytes() for each in made}
    with pytest.raises(UsageError, match="never overwritten"):
        write_evidence(bare.story, folder, [EvidenceKind.CARD], [Form.HTML])
    assert {each: each.read_bytes() for each in made} == before


# --- drawing -------------------------------------------------------------------------------------------------------------------


def test_charts_are_text_and_lines_whatever_names_hold() -> None:
    for svg in (
        bars([("<b>&'\"", 1.0, 2.0, "1 of 2"), ("x" * 90, 0.0, None, "0")], "<t>", "<d>"),
        lines([(1.0, 0.7), (2.0, 0.7)], "<t>", "<d>", ("<x>", "<y>")),
        lines([(0.1, 0.2)], "t", "d", ("x", "y"), diagonal=True),
    ):
        page = read_html(svg.encode())
        assert page.tags <= {"svg", "title", "desc", "line", "text", "polyline", "circle", "rect"}
        assert "nan" not in svg.lower()
        assert not page.links


def test_ticks_and_ranges() -> None:
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0.61, 0.74) == [0.62, 0.64, 0.66, 0.68, 0.7, 0.72, 0.74]
    assert ticks(1.0, 1.0) == [1.0]
    assert ranges([3, 5, 6, 7, 9]) == "3, 5 to 7, 9"
    assert ranges([4]) == "4"
