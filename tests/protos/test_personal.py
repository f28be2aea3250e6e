"""A site's word that it personalises a model."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from protos.keys import SigningKey, create_node_key
from protos.membership import Member, MemberList
from protos.personal import PersonalStatement, require_personal, state_personal
from strategies.encoding import canonical_json
from strategies.errors import CovenantError, Refused
from strategies.ids import Digest, SiteName, site_name
from tests.trust_for_tests import key_of

FEDERATION, MODEL = Digest("ab" * 32), Digest("cd" * 32)
WEST, SOUTH = site_name("west"), site_name("south")
AT = datetime(2027, 3, 4, 15, 6, 7, 89, tzinfo=UTC)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> MemberList:
    return MemberList(
        name="demo",
        version=3,
        members=tuple(
            Member(
                site=site,
                identity_key=key_of(site).public,
                node_key=create_node_key(tmp_path_factory.mktemp(site) / "node.key"),
            )
            for site in (SOUTH, WEST)
        ),
    )


def said(signer: SigningKey | None = None, site: SiteName = WEST) -> PersonalStatement:
    return state_personal(FEDERATION, site, MODEL, signer or key_of("west"), at=AT)


def test_a_statement_counts_and_has_the_day_alone(members: MemberList) -> None:
    statement = PersonalStatement.from_canonical(said().canonical)
    require_personal(statement, members, FEDERATION)
    assert statement.at == datetime(2027, 3, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (said(key_of("south")), "not signed with its key"),
        (said(site=site_name("east")), "east"),
        (said().model_copy(update={"model": Digest("ef" * 32)}), "not signed with its key"),
        (said().model_copy(update={"at": datetime(2027, 3, 5, tzinfo=UTC)}), "not signed with its key"),
        (said().model_copy(update={"federation": Digest("ef" * 32)}), "this is the one with root"),
    ],
)
def test_what_does_not_count(statement: PersonalStatement, words: str, members: MemberList) -> None:
    with pytest.raises(CovenantError, match=words):
        require_personal(statement, members, FEDERATION)


def test_it_has_no_room_for_anything_else() -> None:
    more = {**said().model_dump(mode="json"), "better": True}
    with pytest.raises(Refused, match="unknown key `better`"):
        PersonalStatement.from_canonical(canonical_json(more))
