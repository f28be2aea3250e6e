"""Halts: any officer and any site stops a site's part, a run or everything alone; it takes two officers to go on (`halt_lifts`).

1. An order is signed with the identity key of whoever gives it. A site orders for itself, for a run, or for all; an officer for any site too. The log's
   service may order anything that an officer asks it for: whoever has its key is the coordinator, which could stop asking anyway.
2. Only `require_halt` makes what is acted on: who is not on the member list, or whose key has expired, says nothing.
3. An order names the federation by its root, version 1: it counts in no other federation of the same name.
4. To stop is the safe side, so an order is good however old it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from protos.documents import Document, FieldError, Part, make_document
from protos.keys import Signature, Signer, grouped, verify
from protos.membership import MemberList
from protos.moments import Moment
from protos.names import Name, Sha256, matching
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, RunId, SiteName, run_id, site_name

MOST_ORDER_BYTES: Final = 64 * 1024
_ORDER_LABEL: Final = "covenant/halt/v1"
SHOWN: Final = 12
"""Digits of an order that people are shown."""

HaltScope = Literal["site", "run", "all"]
Why = Annotated[str, Field(min_length=1, max_length=500)]
OrderId = Annotated[str, matching(r"[0-9a-f]{32}", "32 hexadecimal digits")]


class OrderedBy(Part):
    """Who gives an order: an officer, a site or a service, by the name on the member list; and for which officer a service gives it."""

    kind: Literal["officer", "site", "service"]
    name: Name
    asked_by: Name | None = None

    @model_validator(mode="after")
    def _only_services_are_asked(self) -> Self:
        if (self.kind == "service") != (self.asked_by is not None):
            raise FieldError("asked_by", "a service says which officer asked it; nobody else is asked")
        return self

    @property
    def words(self) -> str:
        """`officer privacy-1`, `site north`, `service log, asked by officer privacy-1`."""
        asked = "" if self.asked_by is None else f", asked by officer {self.asked_by}"
        return f"{self.kind} {self.name}{asked}"


class _Order(Document):
    """What is signed."""

    covenant: Literal["halt/v1"] = "halt/v1"
    federation: Sha256
    """Digest of root version 1."""
    scope: HaltScope
    target: str | None = None
    reason: Why
    by: OrderedBy
    at: Moment
    id: OrderId

    @model_validator(mode="after")
    def _target_fits_the_scope(self) -> Self:
        if (self.scope == "all") != (self.target is None):
            raise FieldError("target", "name the site or the run that is halted, and nothing for all")
        try:
            if self.scope == "run":
                run_id(self.target or "")
            elif self.scope == "site":
                site_name(self.target or "")
        except UsageError as error:
            raise FieldError("target", str(error)) from error
        if self.scope == "site" and self.by.kind == "site" and self.by.name != self.target:
            raise FieldError(
                "target", "a site halts itself, a run, or all; another site is halted by an officer"
            )
        return self


class HaltOrder(_Order):
    """An order to halt, signed. Worth nothing before `require_halt`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}, exclude_none=True))

    @property
    def what(self) -> str:
        """What is halted, as in `run run-0123456789abcdef`."""
        return "everything" if self.scope == "all" else f"{self.scope} {self.target}"

    @property
    def words(self) -> str:
        """Who halted what, and why."""
        return f"{self.by.words} halted {self.what} at {self.at:%Y-%m-%d %H:%M:%S} UTC: {self.reason} (halt {self.id[:SHOWN]})"

    def covers(self, run: RunId, sites: frozenset[SiteName] = frozenset()) -> bool:
        """Whether it stands in the way of `run`, or of asking one of `sites`."""
        match self.scope:
            case "all":
                return True
            case "run":
                return self.target == run
            case "site":
                return self.target in sites


def order_halt(
    federation: Digest,
    scope: HaltScope,
    target: str | None,
    reason: str,
    by: OrderedBy,
    signer: Signer,
    *,
    at: datetime,
    entropy: bytes,
) -> HaltOrder:
    """The order of `by`, who holds `signer`, in the `federation` of that root version 1; `entropy` is 16 random bytes. Raises UsageError."""
    said = make_document(
        _Order,
        "the order",
        federation=federation,
        scope=scope,
        target=target,
        reason=reason,
        by=by,
        at=at.replace(microsecond=0),
        id=entropy.hex(),
    )
    return HaltOrder(**dict(said), signature=signer.sign(_ORDER_LABEL, said.canonical))


@dataclass(frozen=True, slots=True)
class Halt:
    """An order that counts; `require_halt` is its only maker."""

    order: HaltOrder

    @property
    def digest(self) -> Digest:
        """By which the log and a lift name it."""
        return self.order.digest


def require_halt(order: HaltOrder, members: MemberList, federation: Digest, now: datetime) -> Halt:
    """Judge an order by the newest member list of the `federation` with that root version 1. Raises Refused."""
    if order.federation != federation:
        raise Refused(
            f"the order is for the federation with root {grouped(order.federation)}, and this is the one with root {grouped(federation)}: what is"
            " ordered in one federation counts in no other"
        )
    if order.by.kind == "officer":
        officer = members.officer(order.by.name)
        officer.require_current(now)
        key = officer.key
    elif order.by.kind == "service":
        key = _service_key(order.by, members, now)
    else:
        key = members.member(SiteName(order.by.name)).identity_key
    if not verify(key, order.signature, _ORDER_LABEL, order.message):
        raise Refused(
            f"the order of {order.by.words} is not signed with their key on member list {members.ref}: order or key was changed; have it given again"
        )
    return Halt(order)


def _service_key(by: OrderedBy, members: MemberList, now: datetime) -> str:
    """The key of the log's service. Raises Refused for any other, and where whoever is said to have asked it is no officer now."""
    members.officer(by.asked_by or "").require_current(now)
    service = members.service("log")
    if service.name != by.name:
        raise Refused(f"{by.words} orders nothing; of services only {service.name} does, which keeps the log")
    return service.key
