"""Nothing that this program says passes a verdict on laws: the word is in no text of its own, and in no pack that it publishes."""

from __future__ import annotations

from pathlib import Path

import pytest

import protos
from protos.documents import DocumentError
from tests.policies_for_tests import pack, rule

ROOT = Path(protos.__file__).parents[1]
WORD = "complian"
SAID = ("coordinator", "client", "protos", "strategies", "simulation", "docs")
RULED = {"protos/policy_pack.py", "docs/privacy-officer/policies.md"}
"""Where the word is refused, and where officers are told so."""
DEPARTMENTS = {"docs/scoring/index.md"}
"""Where it names people: a bank's own department."""
OTHERS = {".pyc", ".png", ".ico", ".woff2"}


def texts() -> list[Path]:
    """All but what others publish: licences say what they want."""
    found = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    found += [each for folder in SAID for each in (ROOT / folder).rglob("*") if each.is_file()]
    return [each for each in found if each.suffix not in OTHERS and "vendor" not in each.parts]


def test_the_word_is_in_no_source_of_any_output() -> None:
    """Code, templates, packs, the mapping to laws, schemas and pages: whatever is printed, written or sent begins as one of these."""
    read = texts()
    kinds = {each.suffix for each in read}
    assert kinds >= {".py", ".yaml", ".j2", ".typ", ".md", ".proto"}
    with_it = {
        each.relative_to(ROOT).as_posix()
        for each in read
        if WORD in each.read_text(encoding="utf-8", errors="replace").lower()
    }
    assert with_it == RULED | DEPARTMENTS
    assert (ROOT / "docs/scoring/index.md").read_text(encoding="utf-8").lower().count(WORD) == 1


@pytest.mark.parametrize(
    "made",
    [
        lambda: rule(id="gdpr-compliant"),
        lambda: rule(says="It is Compliant."),
        lambda: rule(remedy="Make it compliant."),
        lambda: pack(name="compliance"),
        lambda: pack(reason="Compliance asked for it."),
    ],
    ids=["id", "says", "remedy", "name", "reason"],
)
def test_no_pack_has_it_whose_words_are_shown_as_verdicts(made: object) -> None:
    with pytest.raises(DocumentError, match="without the word compliant"):
        made()  # type: ignore[operator]
