"""A site's statement of its own privacy accounts: what its agent charged, signed with the site's identity key.

1. It is worth nothing before `SignedStatement.verify` accepted it against the identity key that the reader knows the site by.
2. The signature is over the exact text of the document, under a label of its own, and the text is canonical JSON (RFC 8785).
3. Releases are stated as their mathematics, each under the digest of it. There is no epsilon in a statement.
4. Sizes are bounded before anything is parsed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, ValidationError, model_validator

from protos.documents import Part
from protos.keys import PublicKey, Signer, verify
from protos.names import Name, Run, Sha256, Site
from strategies.dp.events import Release
from strategies.dp.filters import Ceiling
from strategies.encoding import canonical_json, digest_of, json_numbers
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName, site_name

MAX_STATEMENT_BYTES: Final = 256 << 20
_LABEL: Final = "covenant/account/v1"
_MOST_ACCOUNTS: Final = 1000
_MOST_ENTRIES: Final = 1_000_000

# A release or a ceiling as its `facts()`, also after it was read back.
Facts = Annotated[dict[str, Any], AfterValidator(json_numbers)]
Number = Annotated[int, Field(ge=0, le=1_000_000)]


class StatedEntry(Part):
    """One charge: `attempt` at `stage` of `round` of a run released `release`, under the plan with digest `plan`."""

    run: Run
    stage: Literal["prepare", "train", "evaluate"]
    round: Number
    attempt: Number
    release: Sha256
    plan: Sha256
    at: AwareDatetime
    elsewhere: bool = False
    """Charged for another federation: run and plan are then pseudonyms, because they are none of this one's business. It counts all the same."""


class StatedAccount(Part):
    """The account of one population, as its site keeps it: its ceiling, and all that was charged to it.

    One attempt may be charged twice, by an agent that was started again in the middle of it.
    """

    population: Name
    ceiling: Facts
    releases: Annotated[dict[Sha256, Facts], Field(max_length=_MOST_ENTRIES)]
    entries: Annotated[tuple[StatedEntry, ...], Field(max_length=_MOST_ENTRIES)]

    @classmethod
    def of(
        cls, population: str, ceiling: Ceiling, releases: Iterable[Release], entries: Iterable[StatedEntry]
    ) -> Self:
        """State an account; `releases` are those that its entries name. Raises UsageError where they do not belong together."""
        facts = {release.digest: release.facts() for release in releases}
        try:
            return cls(population=population, ceiling=ceiling.facts(), releases=facts, entries=tuple(entries))
        except ValidationError as error:
            raise UsageError(f"the account of {population} cannot be stated: {_first(error)}") from error

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        ceiling = _parsed(Ceiling.from_facts, self.ceiling)
        for digest, facts in self.releases.items():
            release = _parsed(Release.from_facts, facts)
            if _parsed(digest_of, facts) != digest or release.digest != digest:
                raise ValueError(f"release {digest} has another digest than its facts")
            if not ceiling.unit.is_same_person(release.unit):
                raise ValueError(
                    f"{release.what} is per {release.unit.words}, the account per {ceiling.unit.words}"
                )
        if {entry.release for entry in self.entries} != set(self.releases):
            raise ValueError("entries and releases do not name the same digests")
        return self

    @property
    def filter_ceiling(self) -> Ceiling:
        """The ceiling."""
        return Ceiling.from_facts(self.ceiling)

    def charges(self) -> Mapping[Release, int]:
        """How often each release was charged."""
        times = Counter(entry.release for entry in self.entries)
        return {Release.from_facts(facts): times[digest] for digest, facts in self.releases.items()}


class AccountStatement(Part):
    """All privacy accounts of `site` at `made_at`, by the holder of the key `identity`."""

    covenant: Literal["account/v1"] = "account/v1"
    site: Site
    identity: PublicKey
    made_at: AwareDatetime
    accounts: Annotated[tuple[StatedAccount, ...], Field(max_length=_MOST_ACCOUNTS)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        units = [(each.population, each.filter_ceiling.unit) for each in self.accounts]
        keys = [(population, unit.kind, unit.column) for population, unit in units]
        if len(set(keys)) < len(keys):
            raise ValueError("an account is stated twice")
        return self

    @property
    def canonical(self) -> bytes:
        """Canonical JSON (RFC 8785)."""
        return canonical_json(self.model_dump(mode="json"))


class SignedStatement(Part):
    """A statement's text, and the site's signature (base64) over it. Worth nothing before `verify`."""

    document: str
    signature: str

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises Refused for what is none, or larger than `MAX_STATEMENT_BYTES`."""
        if len(data) > MAX_STATEMENT_BYTES:
            raise Refused(f"the statement has {len(data)} bytes; at most {MAX_STATEMENT_BYTES} are accepted")
        try:
            return cls.model_validate_json(data, strict=True)
        except ValidationError as error:
            raise Refused(f"this is no signed account statement: {_first(error)}") from error

    @property
    def claimed_site(self) -> SiteName:
        """Whose statement this says it is: only good for looking its key up. Raises Refused where it says nothing."""
        try:
            return site_name(json.loads(self.document)["site"])
        except (ValueError, RecursionError, KeyError, TypeError, UsageError) as error:
            raise Refused("the account statement names no site; ask the site for a new one") from error

    def verify(self, identity: str) -> AccountStatement:
        """The statement, if the holder of `identity` (base64) signed it; Refused otherwise, and for what is not in canonical form."""
        text = self.document.encode()
        if not verify(identity, self.signature, _LABEL, text):
            raise Refused(
                f"the account statement of {self.claimed_site} is not signed with the identity key that is known here; ask the site for a new "
                "one, and compare fingerprints if that is refused too"
            )
        try:
            statement = AccountStatement.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise Refused(
                f"the account statement of {self.claimed_site} is not valid: {_first(error)}"
            ) from error
        if statement.identity != identity or statement.canonical != text:
            raise Refused(
                f"the account statement of {statement.site} names another key than it is signed with, or is not in canonical form (RFC 8785)"
            )
        return statement

    def to_bytes(self) -> bytes:
        """The file that a site hands over."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"


def sign(
    site: SiteName, identity: Signer, made_at: datetime, accounts: Iterable[StatedAccount]
) -> SignedStatement:
    """State and sign the accounts of `site` with its `identity` key. Raises UsageError for an account that is there twice."""
    try:
        statement = AccountStatement(
            site=site, identity=identity.public, made_at=made_at, accounts=tuple(accounts)
        )
    except ValidationError as error:
        raise UsageError(f"the accounts of {site} cannot be stated: {_first(error)}") from error
    text = statement.canonical
    return SignedStatement(document=text.decode(), signature=identity.sign(_LABEL, text))


def _parsed(parse: Any, facts: Facts) -> Any:  # noqa: ANN401  (of whatever `parse` gives)
    """What `parse` makes of `facts`, its refusal as the ValueError that pydantic expects."""
    try:
        return parse(facts)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False)[0]
    where = ".".join(str(step) for step in detail["loc"])
    return f"{where}: {detail['msg']}" if where else detail["msg"]
