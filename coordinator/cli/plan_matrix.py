"""`covenant plan matrix`: which combinations of algorithm, privacy mode and aggregation there are."""

from __future__ import annotations

from dataclasses import asdict

from rich.table import Table

from coordinator.cli.options import Json
from protos.plan_aggregation import MEAN
from protos.plan_draft import Kind
from protos.plan_matrix import algorithms, matrix
from protos.shell import emit, people, tell


def show_matrix(json: Json = False) -> None:
    """Algorithm x privacy mode x aggregation, and rules: which plans there are, why the others are none, and the nearest that is."""
    cells = matrix()
    if json:
        emit(
            {
                "cells": [
                    {
                        **asdict(each.kind),
                        "allowed": each.allowed,
                        "refusal": each.refusal,
                        "nearest": None if each.nearest is None else asdict(each.nearest),
                    }
                    for each in cells
                ]
            }
        )
        return
    table = Table("privacy", "aggregation", "rule", *algorithms(), title="which plans there are")
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for each in cells:
        row = rows.setdefault((each.kind.privacy, each.kind.aggregation, each.kind.rule), {})
        row[each.kind.algorithm] = "yes" if each.allowed else "no"
    for place, found in rows.items():
        table.add_row(*place, *(found.get(algorithm, "no") for algorithm in algorithms()))
    people.print(table)
    for each in cells:
        if each.nearest is not None:
            tell(f"{words(each.kind)}: {each.refusal}. Nearest: {words(each.nearest)}")


def words(kind: Kind) -> str:
    """`fedavg, privacy none, secure aggregation`, and the rule where it is no mean."""
    rule = "" if kind.rule == MEAN else f" by {kind.rule}"
    return f"{kind.algorithm}, privacy {kind.privacy}, {kind.aggregation} aggregation{rule}"
