"""Member lists as the transparency log tells them: each led to from the root that its reader has pinned, and none that was left behind comes back."""

from __future__ import annotations

from dataclasses import dataclass, field

from protos.log_entries import MembersSigned
from protos.membership import MemberList, Membership, Trusted
from protos.root import SignedRoot
from protos.succession import Newest, newest_after
from strategies.errors import Refused
from strategies.ids import Digest


@dataclass
class MemberStory:
    """The lists of a log. `take` entries in order; raises Refused."""

    pinned: SignedRoot
    trusted: Trusted | None = None
    """The list in force."""
    newest: Newest | None = None
    _lists: dict[Digest, Trusted] = field(default_factory=dict)

    @property
    def members(self) -> MemberList | None:
        """Who is a member by the list in force."""
        return None if self.trusted is None else self.trusted.members

    def take(self, what: MembersSigned) -> None:
        """A list is in force."""
        trusted = what.members.read_as(Membership).verify(self.pinned)
        self.newest = newest_after(trusted, self.newest)
        self._lists[what.members.digest] = self.trusted = trusted

    def known(self, why: str) -> Trusted:
        """The list in force. Raises Refused, saying `why` one is needed, where there is none yet."""
        if self.trusted is None:
            raise Refused(why)
        return self.trusted

    def in_force(self, digest: Digest, run: str) -> Trusted:
        """The list with a digest, under which `run` is launched. Raises Refused where it is not the one in force."""
        found = self._lists.get(digest)
        if found is None:
            raise Refused(f"{run} is launched under a member list that is not in the log before it")
        if found.members != self.members:
            raise Refused(f"{run} is launched under an older member list, {found.members.ref}")
        return found

    def require_root(self, version: int) -> None:
        """Check that a root with this version, which signed something, was not left behind. Raises Refused."""
        if self.newest is not None and version < self.newest.root:
            raise Refused(
                f"it is signed under root version {version}, and version {self.newest.root} has been accepted"
            )

    def require_reaches(self, known: Membership) -> None:
        """Check that the log has come to a member list that its reader knows of, by the same root. Raises Refused."""
        newest = known.verify(self.pinned)
        if self.members is None or self.members.version < newest.members.version:
            has = "none" if self.members is None else self.members.ref
            raise Refused(
                f"this log ends before member list {newest.members.ref}, which you have (it comes to {has}): ask for a later export, and what became of it"
            )
        if self.members.version == newest.members.version and self.members != newest.members:
            raise Refused(
                f"this log has another member list {newest.members.ref} than you have: compare both with the officers"
            )
