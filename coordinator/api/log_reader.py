"""The log and the member list over the control API, for whoever checks them: nothing here is believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from coordinator.api.client import ControlClient
from coordinator.governance.log import RawEntry
from protos import governance_pb2 as governance
from protos.log_proofs import MOST_ENTRY_BYTES, MOST_HASHES, Grown
from protos.membership import Membership
from strategies.errors import Refused

_LOG: Final = "covenant.governance.v1.Log/"
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class LogReader:
    """What a coordinator shows of its log. Everything raises `CovenantError`."""

    client: ControlClient

    def members(self) -> Membership:
        """The member list in use, and the roots that lead to it."""
        answer = self.client.ask(
            "covenant.governance.v1.Members/GetMembers",
            governance.GetMembersRequest(),
            governance.MemberListInUse,
        )
        return Membership.from_canonical(answer.membership)

    def head(self) -> str:
        """The signed note of the newest head."""
        request = governance.GetCheckpointRequest()
        return str(self.client.ask(f"{_LOG}GetCheckpoint", request, governance.SignedHead).note)

    def grown(self, old: int, new: int) -> Grown:
        """What is said to prove that the log of `new` entries begins with the `old`."""
        request = governance.GetConsistencyRequest(old=old, new=new)
        hashes = self.client.ask(f"{_LOG}GetConsistency", request, governance.Proof).hashes
        if len(hashes) > MOST_HASHES:
            raise Refused(
                f"a proof has at most {MOST_HASHES} hashes; {self.client.server} sent {len(hashes)}"
            )
        return Grown.of(old, hashes)

    def entries(self, start: int, stop: int) -> Iterator[RawEntry]:
        """The entries from `start` up to `stop`, each after the one before. Raises Refused where one is missing."""
        position = start
        for page in self.client.pages(
            f"{_LOG}ListEntries",
            lambda token: governance.ListEntriesRequest(start=start, page_size=_PAGE, page_token=token),
            governance.ListEntriesResponse,
        ):
            for each in page.entries:
                if position == stop:
                    return
                if each.seq != position or len(each.body) > MOST_ENTRY_BYTES:
                    raise Refused(
                        f"{self.client.server} sent entry {each.seq} of {len(each.body)} bytes where entry {position} of the log belongs"
                    )
                yield RawEntry(each.seq, each.body)
                position += 1
            if position == stop:
                return
            if not page.entries:
                break  # a list that goes on with nothing would go on for ever
        if position < stop:
            raise Refused(
                f"{self.client.server} sent {position} of the {stop} entries that its log is signed for"
            )
