"""A site's way onto the member list: its request to the officers, over the enrolment door or as a file, and the list that comes back.

1. Keys are made here and stay here. What is sent is the request, which shows that the identity key is held.
2. Nothing counts that the pinned root's quorum has not signed, and the root counts once a person has compared its fingerprint.
3. The first list that has this site on it is recorded as the newest that the site has seen, so none before it counts any more.
"""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx

from client.bootstrap import open_trust
from client.fleet.probe import look, require_usable
from client.keystore import enrolment_request, load_root, make_keys
from protos.enrolment import EnrolmentRequest
from protos.files import replace_file
from protos.invitation import ENROLMENT_PATH, MOST_ANSWER_BYTES, DoorAnswer, Invitation, Submission
from protos.keys import fingerprint
from protos.membership import Membership, Role, Trusted
from protos.names import address_parts, is_loopback
from protos.site import SiteConfig
from strategies.errors import CovenantError, Refused, Unreachable, UsageError

MEMBERS_FILE: Final = "members.json"
_PUBLIC_MODE: Final = 0o644
_TIMEOUT_S: Final = 20.0
_FEWEST_DIGITS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What a site knows once it is a member."""

    trusted: Trusted
    site: str

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        members = self.trusted.members
        approvers = {
            each.name: list(each.roles)
            for each in members.officers
            if {Role.PRIVACY_OFFICER, Role.MODEL_RISK} & set(each.roles)
        }
        return {
            "state": "member",
            "site": self.site,
            "members": members.ref,
            "root": self.trusted.root.fingerprint,
            "log_key": fingerprint(members.service("log").key),
            "approvers": approvers,
        }


def require_fingerprint(config: SiteConfig, said: str) -> None:
    """Check what a person was told of the root's fingerprint, at least its first 32 digits. Raises Refused."""
    found = load_root(config).root.fingerprint.replace(" ", "")
    given = "".join(said.split()).lower().replace(":", "")
    if len(given) < _FEWEST_DIGITS or not hmac.compare_digest(found[: len(given)], given):
        raise Refused(
            f"the root in {config.federation.root} has fingerprint {load_root(config).root.fingerprint}, and not the one given. Nothing was sent. Ask the officers on a channel"
            " that you trust; if theirs is another one, this root is not theirs"
        )


def request_of(config: SiteConfig) -> EnrolmentRequest:
    """The site's request; its keys are made where there are none."""
    if not config.identity.key.exists() and not config.identity.node_key.exists():
        return make_keys(config)
    return enrolment_request(config)


def require_for(invitation: Invitation, config: SiteConfig) -> None:
    """Check that an invitation is for this site as it is configured. Raises Refused."""
    named = (invitation.site, invitation.federation)
    if named != (config.site, config.federation.name):
        raise Refused(
            f"the invitation is for {invitation.site} in {invitation.federation}; this site is {config.site} in {config.federation.name}"
        )
    if invitation.root.root.digest != load_root(config).root.digest:
        raise Refused(
            f"the invitation has another root than {config.federation.root}; compare both fingerprints with the officers"
        )


def submit(invitation: Invitation, config: SiteConfig, *, clock: Callable[[], datetime]) -> DoorAnswer:
    """Hand the request in at the door, or ask how far it is. Raises Refused with the door's reason, and Unreachable."""
    require_for(invitation, config)
    if invitation.door is None:
        raise UsageError(
            "this invitation names no enrolment door, so the request travels as a file: use --offline, and send enrolment.json to the centre"
        )
    proxy = config.federation.proxy_url
    body = Submission(token=invitation.token, request=request_of(config)).canonical
    try:
        answer = _said(_post(invitation.door, invitation.ca, body, proxy))
    except httpx.TransportError as error:
        # Whatever is wrong on the way has a name and a fix, if it can be seen from here.
        require_usable(look(invitation.door, invitation.ca.encode(), proxy=proxy, clock=clock))
        raise Unreachable(f"the enrolment door at {invitation.door} cannot be reached: {error}") from error
    if answer.state == "refused":
        invitation.require_current(clock())
        raise Refused(f"the enrolment door refuses: {answer.reason}")
    return answer


def accept(config: SiteConfig, membership: Membership) -> Enrolled:
    """Take the member list that has this site on it. Raises Refused for one that the root's quorum has not signed, or without this site's keys."""
    request, pinned = enrolment_request(config), load_root(config)
    trusted = membership.verify(pinned)
    member = trusted.members.member(config.site)
    if (member.identity_key, member.node_key) != (request.identity_key, request.node_key):
        raise Refused(
            f"member list {trusted.members.ref} has {config.site} with other keys than lie here: the officers certified another request, or an"
            f" earlier one. This site's fingerprint is {request.fingerprint}"
        )
    trust = open_trust(config)
    with closing(trust.journal):
        trust.accept(membership.canonical, begun=False)
    replace_file(members_file(config), membership.canonical + b"\n", mode=_PUBLIC_MODE)
    return Enrolled(trusted=trusted, site=config.site)


def members_file(config: SiteConfig) -> Path:
    """Where a site keeps the list that it was enrolled with, for its people."""
    return config.identity.key.parent / MEMBERS_FILE


def _post(door: str, ca: str, body: bytes, proxy: str | None) -> tuple[int, bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca)
    with (
        httpx.Client(
            verify=context,
            trust_env=False,
            proxy=None if is_loopback(address_parts(door)[0]) else proxy,
            timeout=_TIMEOUT_S,
            follow_redirects=False,
        ) as http,
        http.stream("POST", f"https://{door}{ENROLMENT_PATH}", content=body) as response,
    ):
        said = b""
        for piece in response.iter_bytes():
            said += piece
            if len(said) > MOST_ANSWER_BYTES:
                raise CovenantError(
                    f"{door} answers with more than {MOST_ANSWER_BYTES} bytes; that is no enrolment door"
                )
        return response.status_code, said


def _said(answer: tuple[int, bytes]) -> DoorAnswer:
    status, body = answer
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return DoorAnswer(state="waiting", reason="the door is busy")
    try:
        return DoorAnswer.from_canonical(body)
    except (Refused, UsageError) as error:
        raise CovenantError(
            f"what answers there (HTTP {status}) is no enrolment door of this version; check the address in the invitation with the centre"
        ) from error
