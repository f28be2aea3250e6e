"""What an entry of the transparency log is about: the run, the sites, the plan, the model, the officers and the target that it names.

1. Subjects serve to find entries again. Nothing is decided by them, and no auditor needs them: whoever checks a log reads all of it.
2. Entries of a round are about their run, and not about each site that took part: a site's rounds are those of the runs that were launched with it,
   that it witnessed or refused.
3. Entries are read as they are written, as parts or as JSON: an entry of an earlier version, in which a name is missing, is about less.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from protos.log_entries import What
from strategies.errors import UsageError

Of = Literal["run", "site", "plan", "model", "officer", "target"]
KINDS: Final[tuple[Of, ...]] = get_args(Of)
LONGEST: Final = 96
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9@-]{0,79}", re.ASCII)
_EACH: Final = "*"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """A subject: a plan goes by its digest and by its name, a model by its name and by name and version."""

    of: Of
    name: str

    @property
    def key(self) -> str:
        """As the index has it, such as `site/north`: a site and an officer may have one name. At most `LONGEST` characters."""
        return f"{self.of}/{self.name}"

    @classmethod
    def parse(cls, key: str) -> Subject:
        """The subject of a key. Raises UsageError for what is none."""
        of, _, name = key.partition("/")
        if of not in KINDS or _NAME.fullmatch(name) is None:
            raise UsageError(
                f"{key[:LONGEST]!r} is no subject of the log; one is called {KINDS[0]}/NAME, site/NAME and so on"
            )
        return cls(of, name)


Names = Callable[[Any], Iterator[Subject]]


def subjects_of(what: What | Mapping[str, Any]) -> frozenset[Subject]:
    """The subjects of what an entry tells, as it was read or as JSON. The kind is one of `LogEntry`; one that is not known is about nothing."""
    return frozenset(found for names in _ABOUT.get(_step(what, "kind"), ()) for found in names(what))


def _at(of: Of, path: str) -> Names:
    """Names at a path of fields, of which `*` is each of a list."""
    steps = path.split(".")

    def names(what: Any) -> Iterator[Subject]:  # noqa: ANN401  (a part or JSON)
        for found in _follow(what, steps):
            if isinstance(found, str) and _NAME.fullmatch(found):
                yield Subject(of, found)

    return names


def _version(path: str = "") -> Names:
    """The model whose name and version are fields of what is at a path."""
    steps = path.split(".") if path else []

    def names(what: Any) -> Iterator[Subject]:  # noqa: ANN401  (a part or JSON)
        for found in _follow(what, steps):
            name, version = _step(found, "model") or _step(found, "name"), _step(found, "version")
            if isinstance(name, str) and _NAME.fullmatch(name):
                yield Subject("model", name)
                if isinstance(version, int):
                    yield Subject("model", f"{name}@{version}")

    return names


def _judged(what: Any) -> Iterator[Subject]:  # noqa: ANN401  (a part or JSON)
    """A policy's judgement is of a plan or of a model."""
    subject = _step(_step(what, "judgement"), "subject")
    if _step(subject, "of") == "model":
        yield from _version()(subject)
    else:
        yield from _at("plan", "name")(subject)
        yield from _at("plan", "plan")(subject)


def _ordered(what: Any) -> Iterator[Subject]:  # noqa: ANN401  (a part or JSON)
    """A halt is of a run, of a site or of everything, and given by an officer, a site or a service."""
    order = _step(_step(what, "order"), "document")
    scope, by = _step(order, "scope"), _step(order, "by")
    if scope in {"run", "site"}:
        yield from _at(scope, "target")(order)
    if (kind := _step(by, "kind")) in {"officer", "site"}:
        yield from _at(kind, "name")(by)
    yield from _at("officer", "asked_by")(by)


def _follow(value: Any, steps: list[str]) -> Iterator[Any]:  # noqa: ANN401  (a part or JSON)
    for place, name in enumerate(steps):
        if name == _EACH:
            for each in value or ():
                yield from _follow(each, steps[place + 1 :])
            return
        value = _step(value, name)
    yield value


def _step(value: Any, name: str) -> Any:  # noqa: ANN401  (a part or JSON)
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


_RUN: Final = _at("run", "run")
_BY: Final = _at("officer", "by")
"""Whoever acts on the coordinator's machine, or by its rules, is called in words, which are no name."""
_ABOUT: Final[Mapping[str, tuple[Names, ...]]] = {
    "members": (
        _at("site", "members.document.signed.list.members.*.site"),
        _at("officer", "members.document.signed.list.officers.*.name"),
    ),
    "plan": (
        _at("plan", "plan.digest"),
        _at("plan", "plan.document.name"),
        _at("site", "plan.document.sites.invite.*"),
        _at("officer", "evidence.document.statements.*.officer"),
    ),
    "launch": (_RUN, _at("plan", "plan"), _at("site", "reserved.*.site")),
    "prepared": (_RUN,),
    "settled": (_RUN,),
    "voided": (_RUN,),
    "round": (_RUN,),
    "evaluated": (_RUN,),
    "ended": (_RUN,),
    "resumed": (_RUN,),
    "given-up": (_RUN,),
    "witnessed": (_RUN, _at("site", "statements.*.statement.site")),
    "refused": (_RUN, _at("site", "site"), _at("site", "accused")),
    "ceiling": (
        _at("site", "decision.document.decision.site"),
        _at("officer", "decision.document.statements.*.officer"),
    ),
    "model": (_version(), _RUN),
    "personal": (_at("site", "statement.document.site"),),
    "gap": (),
    "adopted": (_at("site", "site"),),
    "halted": (_ordered,),
    "halt-lifted": (_at("officer", "lift.document.statements.*.officer"),),
    "model-moved": (_version(), _BY),
    "model-aliased": (_version(), _BY),
    "model-signed": (_version(),),
    "model-approved": (_version("statement"), _at("officer", "statement.officer")),
    "model-noted": (_version("note"), _at("officer", "note.officer")),
    "gate": (_version(), _BY),
    "policy": (_at("officer", "signed.statements.*.officer"),),
    "judged": (_judged,),
    "policy-in-force": (),
    "target-added": (_at("target", "name"), _BY),
    "deployed": (_at("target", "target"), _version("started"), _version("releases.*.released"), _BY),
    "rollout-moved": (_at("target", "target"),),
    "recalled": (_at("target", "target"), _version(), _BY),
    "recall-confirmed": (_at("target", "target"), _version()),
    "monitor-added": (_version(), _BY, _at("officer", "approvals.*.officer")),
    "drift-alarm": (_version(), _at("target", "place")),
    "drift-acknowledged": (_at("model", "model"), _BY),
    "retraining-drafted": (_version(), _at("plan", "plan"), _at("officer", "author"), _BY),
    "retraining-decided": (_at("model", "model"), _BY),
    "retraining-launched": (_at("model", "model"), _at("plan", "plan"), _RUN),
    "access": (_at("officer", "request.officer"),),
    "proposed": (_at("plan", "plan"), _at("plan", "statement.plan"), _at("officer", "statement.officer")),
    "approved": (_at("plan", "plan"), _at("plan", "statement.plan"), _at("officer", "statement.officer")),
    "denied": (_at("officer", "officer"),),
    "enrolment-denied": (_at("site", "site"),),
}
"""By kind of entry."""
