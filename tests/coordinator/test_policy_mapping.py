"""The table of what laws ask: it names rules that there are, all of them."""

from __future__ import annotations

import pytest

from coordinator.governance.policies.mapping import Mapping, mapping
from coordinator.governance.policies.shipped import baseline
from protos.documents import DocumentError, read_document

ASKED = {
    "SR 11-7": (),
    "EU AI Act": (*(f"Article {each}:" for each in range(9, 16)), "Annex IV, point 1:", "Annex IV, point 9:"),
    "GDPR": ("Article 5(1)(a)", "Article 5(1)(f)", "Article 25", "Article 35"),
    "ECOA and Regulation B": ("1002.4", "1002.9"),
    "DORA": ("Article 5", "Article 28"),
}  # fmt: skip


def test_every_rule_of_the_pack_bears_on_something_and_every_rule_that_is_named_is_in_it() -> None:
    named = {rule for source in mapping().sources for row in source.rows for rule in row.rules}
    assert named == {each.id for each in baseline().rules}


@pytest.mark.parametrize("name", ASKED)
def test_each_source_is_there_with_its_parts(name: str) -> None:
    (source,) = [each for each in mapping().sources if each.name == name]
    places = [row.place for row in source.rows]
    assert len(places) == len(set(places))
    for begins in ASKED[name]:
        assert any(place.startswith(begins) for place in places), begins


def test_what_no_rule_bears_on_says_why() -> None:
    text = "covenant: policy-mapping/v1\nsources:\n- {name: X, about: y, rows: [{place: z, rules: []}]}\n"
    with pytest.raises(DocumentError, match="no rule bears on it; say why under not_checkable"):
        read_document(text, Mapping, "mapping")
    assert any(not row.rules for source in mapping().sources for row in source.rows)
