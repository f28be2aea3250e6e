# ruff: noqa: INP001 (a script; the documentation is no package)
"""Writes the pages that must not drift from the code, and checks that the others keep up with it.

Run as `python docs/generate.py`, or with `--check` to write nothing and leave with 1 if something is stale:

1. `what-leaves-the-site.md` from the comments of the .proto files: every field needs a mark.
2. `reference/commands.md` from the help texts of every command.
3. `reference/roles.md` from the control API's rules and the comments of its .proto files.
4. `reference/plan-matrix.md` from the plans that `protos/plan_matrix.py` judges.
5. The pages on plans and site configurations name every key that the code knows.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import click
import typer.main
from pydantic import BaseModel

from client.cli import app as agent
from coordinator.api.roles import RULES
from coordinator.main import build
from protos.contract import Contract
from protos.membership import Role
from protos.plan import Plan
from protos.plan_draft import Kind
from protos.plan_matrix import algorithms, matrix
from protos.site import SiteConfig

DOCS: Final = Path(__file__).parent
PROTOS: Final = tuple(DOCS.parent / "protos" / name for name in ("training.proto", "secagg.proto"))
_STALE: Final = 1

_BLOCK: Final = re.compile(r"^\s*(message|enum|oneof) (\w+) \{")
_FIELD: Final = re.compile(r"^\s*(?:repeated )?([\w.]+) (\w+) = \d+;\s*(?://\s*(.*))?$")
_VALUE: Final = re.compile(r"^\s*([A-Z_]+) = \d+;\s*(?://\s*(.*))?$")
_COMMENT: Final = re.compile(r"^//\s?(.*)$")
_MARK: Final = re.compile(r"\[(operational|public|data-dependent|sealed|masked|share)\]\s*(.*)")
_SCALARS: Final = frozenset({"bytes", "string", "uint32", "double", "int64"})


class Unmarked(ValueError):  # noqa: N818 (the message says what it is)
    """A field of the wire that does not say what an observer learns from it."""


# --- what leaves the site ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One field of a message, or one value of an enumeration."""

    name: str
    kind: str
    mark: str
    meaning: str


@dataclass(frozen=True)
class Block:
    """A message or an enumeration with the comment above it."""

    name: str
    about: str
    rows: list[Row]


def read_proto(text: str) -> dict[str, Block]:
    """The messages and enumerations of a proto file by name. Raises `Unmarked`."""
    blocks: dict[str, Block] = {}
    open_blocks: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := _COMMENT.match(line):
            comment.append(found[1])
        elif found := _BLOCK.match(line):
            # A field of a oneof belongs to the message around it.
            name = open_blocks[-1] if found[1] == "oneof" else found[2]
            open_blocks.append(name)
            blocks.setdefault(name, Block(name, " ".join(comment), []))
            comment = []
        elif line.strip() == "}":
            open_blocks.pop()
        elif open_blocks and (row := _row(line, open_blocks[-1])):
            blocks[open_blocks[-1]].rows.append(row)
        else:
            comment = []
    return blocks


def _row(line: str, block: str) -> Row | None:
    if found := _FIELD.match(line):
        kind, name, comment = found[1], found[2], found[3] or ""
    elif found := _VALUE.match(line):
        kind, name, comment = "value", found[1], found[2] or ""
        if name.endswith("UNSPECIFIED"):
            return None
    else:
        return None
    marked = _MARK.search(comment)
    if marked is None and (kind in _SCALARS or (kind == "value" and block == "Code")):
        raise Unmarked(
            f"{block}.{name} has no mark; add [operational], [public], [sealed], [masked], [share] or [data-dependent]"
        )
    return Row(name, kind, marked[1] if marked else "", marked[2] if marked else comment)


def leaving_page() -> str:
    """`what-leaves-the-site.md`."""
    blocks: dict[str, Block] = {}
    for proto in PROTOS:
        blocks |= read_proto(proto.read_text())
    parts = {part: "\n\n".join(_message(blocks[name]) for name in names) for part, names in _PARTS.items()}
    covered = {"Stage", "Opening"}.union(*_PARTS.values())
    if set(blocks) != covered:
        raise Unmarked(
            f"the .proto files have other messages than this page: {sorted(set(blocks) ^ covered)}"
        )
    return _LEAVING.format(**parts)


_PARTS: Final = {
    "replies": ("Reply", "SecureAnswer", "Refusal", "Code", "WitnessAnswer"),
    "steps": ("Advertisement", "Envelopes", "Envelope", "MaskedInput", "Confirmation", "Shares", "Share"),
    "requests": (
        "Request", "Statement", "Task", "Scaling", "Secure", "Checkpoint", "Testimony", "Upload", "Frame", "Attempt",
        "AdvertiseRequest", "ShareRequest", "MaskRequest", "ConfirmRequest", "UnmaskRequest",
        "WitnessRequest", "Growth", "LogLeaf",
    ),
}  # fmt: skip


def _message(block: Block) -> str:
    title = "Refusal.Code" if block.name == "Code" else block.name
    about = f"{block.about}\n\n" if block.about else ""
    rows = "\n".join(f"| `{r.name}` | {_kind(r)} | {_marked(r)} | {r.meaning} |" for r in block.rows)
    return f"### {title}\n\n{about}| field | type | mark | meaning |\n|---|---|---|---|\n{rows}"


def _kind(row: Row) -> str:
    if row.kind == "value":
        return "code"
    return row.kind if row.kind in _SCALARS else f"`{row.kind}`"


def _marked(row: Row) -> str:
    if row.mark in {"data-dependent", "masked", "share"}:
        return f"**[{row.mark}]**"
    return f"[{row.mark}]" if row.mark else "see below"


_LEAVING: Final = """\
# What leaves the site

Generated by `docs/generate.py` from the comments in `protos/*.proto`; do not edit it by hand.

Rows never leave a site. What is *computed* from rows does. With **secure** aggregation, which plans have unless they say otherwise, it
leaves masked, and the centre sees sums over at least three sites ([secure aggregation](secagg.md)). With **plain** aggregation, which a site
must admit by name, the centre sees each site's own numbers.

Under a **private** plan noise is added to what is computed: in mode `distributed` a share of it and in mode `local` all of it at the site, before it is masked; in mode `central` by
the centre, which sees the sum without it. What a plan exempts has none, and under mode `none` nothing has. The site charges its own account before it answers. The
[privacy model](privacy-model.md) says what that protects.

Each field carries one of these marks:

- [operational] says nothing about rows.
- [public] is in the plan, the contract or the member list, which everybody has.
- [sealed] can be opened by the one other site that it is for.
- **[masked]** is computed from rows and masked: uniformly random unless enough sites give the shares that open the sum.
- **[share]** opens the sum over the survivors, and nothing else.
- **[data-dependent]** is computed from rows, of this site or of all of them, and readable. Under a private plan it comes of noisy sums only, exemptions and refusals aside.

## From the site to the centre

One `Reply` for each `Request` (the same bytes again if the same request comes twice), and nothing else. Its body
is exactly one of `moments`, `update` and `score_counts` (plain aggregation), `secure` and `refusal`.

{replies}

{steps}

### What the three data-dependent bodies are

They are of plans without privacy. In secure aggregation the same three are computed, but leave as a `MaskedInput`.

- `moments`, once a run: for each numeric feature how many training rows have a value, the sum of the values and the sum of their
  squares, after clipping to the contract's range and mapping to 0..1. One row moves each entry by at most 1. A feature without
  missing values tells the centre how many training rows the site has.
- `update`, once a training round: the site's model minus the round's model. It has as many values as the model has parameters. Updates
  of a small site or over many epochs can reveal a good deal about single rows; treat them as confidential.
- `score_counts`, once an evaluation: how many held-out rows of each class fell into each bin of the score. With many bins and few rows
  most counts are 0 or 1. Their total is the number of held-out rows.

### What is masked under a private plan

Never anything else than these three, as integers, each clamped, with the site's noise if the mode has any.

- Moments, once a run: how many training rows; of each feature that may be missing how many are there; of each numeric feature the sums of (value - 1/2) and of its square.
- Each training round: with `dp-fedsgd` the sum of clipped gradients over a secret sample of units, rounded to a grid; with `dp-sgd` the update after the plan's noisy steps.
- Counts of held-out rows, once, after the last round: by class and at most 32 bins of the score's logit.

## From the centre to the site

{requests}

## What the transport shows besides

The frames above are the content of Flower messages over TLS. The SuperLink also sees the site's address, its public node key, when it is
online (a poll at most every `idle_poll`, a heartbeat every 15 s), and when each reply comes. Computing time grows with
the number of rows, so it hints at the size of a site's data; the agent does not tell it, but whoever delivers a request sees when its answer comes. A run whose bundle the site does not allow is answered with an error message
that names the rule and this site's allowed apps.

## What never leaves

Rows, record keys, private keys, `site.yaml` itself, file names, which units were sampled, the seeds of samples and noise, and the reason of a `contract` refusal: the last stands
in the site's own log only. A `policy` refusal does quote what the site's policy admits, and a `budget` refusal the account's ceiling and what is spent of it.

`accounts.db` stays too. `covenant-agent budget --export` writes a signed copy of its charges to a file; a person sends that, or does not.
"""


# --- commands ---------------------------------------------------------------------------------------------------------


def commands_page() -> str:
    """`reference/commands.md`."""
    parts = [_COMMANDS]
    for name, app in (("covenant", build()), ("covenant-agent", agent)):
        root = typer.main.get_command(app)
        parts += [_command(path, context) for path, context in _walk(name, root, None)]
    return "\n\n".join(parts) + "\n"


def _walk(
    name: str, command: click.Command, parent: click.Context | None
) -> Iterator[tuple[str, click.Context]]:
    context = click.Context(command, info_name=name, parent=parent)
    yield context.command_path, context
    if isinstance(command, click.Group):
        for each in sorted(command.commands):
            yield from _walk(each, command.commands[each], context)


def _command(path: str, context: click.Context) -> str:
    command = context.command
    usage = " ".join((path, *command.collect_usage_pieces(context)))
    level = "##" if context.parent is None else "###"
    lines = [f"{level} {path}", "", " ".join((command.help or "").split()), "", "```text", usage, "```"]
    if isinstance(command, click.Group):
        return "\n".join(lines)
    records = [record for each in command.get_params(context) if (record := each.get_help_record(context))]
    lines += ["", "| parameter | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(text)} |" for name, text in records]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Help as one cell of a table; typer escapes brackets for rich."""
    return " ".join(text.replace("\\[", "[").replace("|", "\\|").split())


_COMMANDS: Final = """\
# Commands

Generated by `docs/generate.py` from the help texts; do not edit it by hand.

Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 4 unreachable, 130 interrupted. Tables and progress go to stderr; `--json` prints one object
on stdout."""


# --- roles ------------------------------------------------------------------------------------------------------------

_CONTROL: Final = tuple(DOCS.parent / "protos" / name for name in ("control.proto", "governance.proto"))
_RPC: Final = re.compile(r"^  rpc (\w+)\(")
_SERVICE: Final = re.compile(r"^service (\w+) \{")
_PACKAGE: Final = re.compile(r"^package ([\w.]+);")
_MACHINERY: Final = {
    "grpc.health.v1.Health": "Whether the server answers.",
    "grpc.reflection.v1alpha.ServerReflection": "What the server serves, for tools such as grpcurl.",
}


def roles_page() -> str:
    """`reference/roles.md`."""
    about = dict(_about_methods())
    header = ["method", *(str(role) for role in Role), "what it does"]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for method, rule in RULES.items():
        mark = "**changes**" if rule.changes else "reads"
        cells = [mark if role in rule.roles else "" for role in Role]
        words = about.get(method) or _MACHINERY[method.partition("/")[0]]
        lines.append(f"| `{method}` | {' | '.join(cells)} | {words} |")
    return f"{_ROLES}\n\n" + "\n".join(lines) + "\n"


def _about_methods() -> Iterator[tuple[str, str]]:
    """Each method of the control API, and the comment above it."""
    for proto in _CONTROL:
        package = service = ""
        comment: list[str] = []
        for line in proto.read_text().splitlines():
            if found := _PACKAGE.match(line):
                package = found[1]
            elif found := _SERVICE.match(line):
                service = found[1]
            elif found := _RPC.match(line):
                yield f"{package}.{service}/{found[1]}", " ".join(comment)
            comment = [*comment, line.strip()[3:]] if line.startswith("  // ") else []


_ROLES: Final = """\
# Who may call what

Generated by `docs/generate.py` from `coordinator/api/roles.py`; do not edit it by hand.

Roles are those of the newest member list, looked up on every call. What is empty is refused; a change that is refused is told to the
[transparency log](../auditor/log.md). An approval takes the very role that it names. On the coordinator's own machine, with `--home`, commands ask for no role: whoever
types there has the database. Approvals are signed wherever they are made."""


# --- the matrix of plans ----------------------------------------------------------------------------------------------


def matrix_page() -> str:
    """`reference/plan-matrix.md`."""
    cells = matrix()
    rows: dict[tuple[str, str], list[str]] = {}
    for each in cells:
        rows.setdefault((each.kind.privacy, each.kind.aggregation), []).append("yes" if each.allowed else "-")
    table = [
        f"| privacy | aggregation | {' | '.join(algorithms())} |",
        f"|{'---|' * (2 + len(algorithms()))}",
    ]
    table += [f"| {' | '.join((*place, *found))} |" for place, found in rows.items()]
    refused = ["| plan | why there is none | nearest |", "|---|---|---|"]
    refused += [
        f"| {_kind_words(each.kind)} | {_cell(each.refusal)} | {_kind_words(each.nearest)} |"
        for each in cells
        if each.refusal is not None and each.nearest is not None
    ]
    return "\n\n".join((_MATRIX, "\n".join(table), "## Why not", "\n".join(refused))) + "\n"


def _kind_words(kind: Kind) -> str:
    return f"`{kind.algorithm}`, privacy `{kind.privacy}`, `{kind.aggregation}` aggregation"


_MATRIX: Final = """\
# Which plans there are

Generated by `docs/generate.py` from what the code refuses; do not edit it by hand. `covenant plan matrix` prints the same.

Every `yes` is run to its end by a test."""


# --- keys that the hand-written pages must name -----------------------------------------------------------------------

_KEYS: Final[tuple[tuple[type[BaseModel], tuple[str, ...]], ...]] = (
    (Plan, ("ml-team/plan.md",)),
    (Contract, ("ml-team/contract.md",)),
    (SiteConfig, ("site-it/site-yaml.md", "site-it/policy.md")),
)


def missing_keys() -> list[str]:
    """A sentence for each key that its pages do not name."""
    sentences: list[str] = []
    for model, pages in _KEYS:
        text = "".join((DOCS / page).read_text() for page in pages)
        sentences += [
            f"no page of {', '.join(pages)} names `{key}`"
            for key in sorted(_keys(model))
            if f"`{key}`" not in text
        ]
    return sentences


def _keys(model: type[BaseModel]) -> set[str]:
    """The names of all keys of a document, whatever their depth."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        found.add(field.alias or name)
        for part in _parts(field.annotation):
            found |= _keys(part)
    return found


def _parts(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 (whatever a field is annotated with)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def main(arguments: list[str]) -> int:
    """Write the pages, or check them; returns the exit code."""
    checking = "--check" in arguments
    complaints = missing_keys()
    for name, text in (
        ("what-leaves-the-site.md", leaving_page()),
        ("reference/commands.md", commands_page()),
        ("reference/roles.md", roles_page()),
        ("reference/plan-matrix.md", matrix_page()),
    ):
        page = DOCS / name
        if checking and (not page.exists() or page.read_text() != text):
            complaints.append(f"docs/{name} is stale; run python docs/generate.py")
        elif not checking:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text)
    for complaint in complaints:
        sys.stderr.write(f"{complaint}\n")
    return _STALE if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
