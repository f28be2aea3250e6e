"""What a site may tell of its personal models: that it personalises a shared one.

1. The statement is signed with the site's identity key. It names the federation by its root, version 1, and the model by a digest that the registry has.
2. It says nothing of rows: it is given for having asked for a personal model, whatever came of that, and is not taken back.
3. Only `require_personal` makes what is acted on: a site that is not on the member list says nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from protos.documents import Document
from protos.keys import Signature, Signer, grouped, verify
from protos.membership import MemberList
from protos.moments import Moment
from protos.names import Sha256, Site
from strategies.encoding import canonical_json
from strategies.errors import Refused
from strategies.ids import Digest, SiteName

MOST_STATEMENT_BYTES: Final = 16 * 1024
_LABEL: Final = "covenant/personal/v1"


class _Said(Document):
    """What is signed."""

    covenant: Literal["personal/v1"] = "personal/v1"
    federation: Sha256
    site: Site
    model: Sha256
    """Of the shared model's weights, or of the artifact that holds them."""
    at: Moment


class PersonalStatement(_Said):
    """That a site personalises a shared model, signed. Worth nothing before `require_personal`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}))


def state_personal(
    federation: Digest, site: SiteName, model: Digest, signer: Signer, *, at: datetime
) -> PersonalStatement:
    """The statement of `site`, whose identity key `signer` is. Of `at` it has the day alone."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    said = _Said(federation=federation, site=site, model=model, at=day)
    return PersonalStatement(**dict(said), signature=signer.sign(_LABEL, said.canonical))


def require_personal(statement: PersonalStatement, members: MemberList, federation: Digest) -> None:
    """Judge a statement by the newest member list of the `federation` with that root version 1. Raises Refused."""
    if statement.federation != federation:
        raise Refused(
            f"the statement is for the federation with root {grouped(statement.federation)}, and this is the one with root {grouped(federation)}"
        )
    key = members.member(statement.site).identity_key
    if not verify(key, statement.signature, _LABEL, statement.message):
        raise Refused(
            f"the statement of {statement.site} is not signed with its key on member list {members.ref}: it was changed, or the site has a new key and must state it again"
        )
