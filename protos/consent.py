"""What a person at a site has said of a plan: that it may run here, or may not.

1. It is about one plan by digest, in one federation by its root, version 1, and signed with the site's identity: it counts nowhere else, and not after
   the site has another key.
2. A consent has a last moment; a denial has none.
3. `kind` is the digest of what makes a plan new to whoever has consented before (`client.admission.consent`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from protos.documents import Document, FieldError, make_document
from protos.keys import Signature, Signer, verify
from protos.moments import Moment
from protos.names import Name, Sha256, Site, Word
from strategies.encoding import canonical_json
from strategies.ids import Digest, SiteName

_LABEL: Final = "covenant/consent/v1"
Verdict = Literal["allow", "deny"]


class _Consent(Document):
    """What is signed."""

    covenant: Literal["consent/v1"] = "consent/v1"
    federation: Sha256
    """Digest of root version 1."""
    site: Site
    plan: Sha256
    name: Name
    """The plan's, for people."""
    kind: Sha256
    verdict: Verdict
    by: Word
    reason: Annotated[str, Field(max_length=500)] | None = None
    at: Moment
    expires: Moment | None = None

    @model_validator(mode="after")
    def _ends_if_it_allows(self) -> Self:
        if (self.verdict == "allow") != (self.expires is not None):
            raise FieldError("expires", "a consent has a last moment, and a denial has none")
        return self


class Consent(_Consent):
    """What a person has said, signed. Worth nothing before `is_signed`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}, exclude_none=True))

    def is_signed(self, identity: str) -> bool:
        """Whether it is signed with `identity`, a public key in base64."""
        return verify(identity, self.signature, _LABEL, self.message)

    @property
    def words(self) -> str:
        """Who said what, for people."""
        until = "" if self.expires is None else f", until {self.expires:%Y-%m-%d %H:%M} UTC"
        said = "allowed" if self.verdict == "allow" else "denied"
        return f"{self.by} {said} plan {self.name} at {self.at:%Y-%m-%d %H:%M} UTC{until}"


def consent(
    *,
    federation: Digest,
    site: SiteName,
    plan: Digest,
    name: str,
    kind: Digest,
    verdict: Verdict,
    by: str,
    reason: str | None,
    at: datetime,
    expires: datetime | None,
    signer: Signer,
) -> Consent:
    """What `by` says of a plan, signed with the site's identity. Raises UsageError."""
    said = make_document(
        _Consent,
        "the consent",
        federation=federation,
        site=site,
        plan=plan,
        name=name,
        kind=kind,
        verdict=verdict,
        by=by,
        reason=reason,
        at=at.replace(microsecond=0),
        expires=None if expires is None else expires.replace(microsecond=0),
    )
    return Consent(**dict(said), signature=signer.sign(_LABEL, said.canonical))
