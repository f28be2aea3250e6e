"""`covenant plan explain`: a plan on one page, for whoever is no engineer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import ContractFile, Json, PlanFile
from coordinator.cli.signing import PUBLIC_MODE
from coordinator.documents import read_draft
from protos.files import write_new
from protos.plan_page import lines_of, page
from protos.shell import emit, tell


def explain_page(
    plan: PlanFile,
    contract: ContractFile = None,
    out: Annotated[Path | None, typer.Option(help="Write the page here, as Markdown.")] = None,
    json: Json = False,
) -> None:
    """A plan on one page: what is computed from whose data, who sees what, what it costs, and what is not protected.

    `covenant privacy explain` has the figures in full.
    """
    parsed, agreed = read_draft(plan, contract)
    sections = page(parsed, agreed)
    head = f"# Plan {parsed.name}"
    if out is not None:
        text = "\n".join((head, "", f"Digest {parsed.digest}", "", *lines_of(sections)))
        write_new(out, text.encode(), mode=PUBLIC_MODE)
    if json:
        facts = [{"title": each.title, "sentences": list(each.sentences)} for each in sections]
        emit({"plan": parsed.name, "digest": parsed.digest, "sections": facts})
        return
    for line in (head, "", f"Digest {parsed.digest}", "", *lines_of(sections)):
        tell(line)
