"""What the officers' commands share: keys and their passphrases, roots, cards, days, and how far a document is signed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from protos.documents import load_document
from protos.enrolment import IdentityCard
from protos.key_files import is_encrypted
from protos.keys import SigningKey
from protos.moments import end_of_day
from protos.passphrases import ask_passphrase, read_passphrase
from protos.root import Root, SignedRoot, follow
from protos.shell import people
from strategies.errors import Refused, UsageError

PUBLIC_MODE: Final = 0o644
_GOOD_FOR: Final = timedelta(days=730)

OfficerName = Annotated[
    str, typer.Option("--officer", help="Who signs, by the name on the member list; the key must be theirs.")
]
OfficerKey = Annotated[Path, typer.Option("--key", help="The officer's private key.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help="File with the key's passphrase, mode 0600. Without it the terminal is asked.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody is at a terminal.")]
SigningKeys = Annotated[
    list[Path] | None, typer.Option("--key", help="Private key of an officer who signs; repeatable.")
]
PassphraseFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--passphrase-file",
        help="File with the passphrase of a --key, mode 0600: one for each key, in their order. Without it the terminal is asked.",
    ),
]
RootFiles = Annotated[
    list[Path],
    typer.Option("--root", help="The root that sites have pinned; then each later version, in order."),
]
Day = Annotated[
    str | None, typer.Option(help="Last day, YYYY-MM-DD, to its end in UTC; two years from now if left out.")
]


def now() -> datetime:
    """The officer's clock."""
    return datetime.now(UTC)


def last_moment(day: str | None) -> datetime:
    """The last moment of a `Day`. Raises UsageError for a day that is over."""
    chosen = end_of_day(day or (now() + _GOOD_FOR).date().isoformat())
    if chosen < now():
        raise UsageError(f"{day} is over; name a last day that is to come")
    return chosen


def confirm(question: str, *, yes: bool) -> None:
    """Ask whoever sits at the terminal. Raises UsageError where nobody does and `yes` was not given, Refused for any other answer than yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"{question} Nobody is at a terminal to ask; give --yes if you have read what is signed"
        )
    people.print(f"{question} [y/N] ", end="", highlight=False, markup=False)
    try:
        answer = input()
    except EOFError:
        answer = ""
    if answer.strip().lower() not in {"y", "yes"}:
        raise Refused("nothing was signed")


def open_keys(keys: Sequence[Path] | None, passphrase_files: Sequence[Path] | None) -> list[SigningKey]:
    """The private keys in the files `keys`. Raises UsageError where one cannot be opened."""
    files, passphrases = keys or (), passphrase_files or ()
    if passphrases and len(passphrases) != len(files):
        raise UsageError(
            f"{len(passphrases)} passphrase files for {len(files)} keys; name one for each --key, in their order"
        )
    return [open_key(key, passphrase) for key, passphrase in zip_longest(files, passphrases)]


def open_key(key: Path, passphrase_file: Path | None) -> SigningKey:
    """The private key in the file `key`; without a passphrase's file the terminal is asked, if it takes one. Raises UsageError."""
    if passphrase_file is not None:
        return SigningKey.load(key, read_passphrase(passphrase_file))
    return SigningKey.load(key, ask_passphrase(key) if is_encrypted(key) else None)


def read_signed_root(path: Path) -> Root:
    """The root in `path`, of any version. Raises `CovenantError`, also for a draft that its own quorum has not signed."""
    signed = load_document(path, SignedRoot)
    signed.require_own_quorum()
    return signed.root


def read_card(path: Path) -> IdentityCard:
    """The identity card in `path`, if it is signed by its own key. Raises `CovenantError`."""
    return load_document(path, IdentityCard).verify()


@dataclass(frozen=True, slots=True)
class Roots:
    """The root that sites have pinned, the later versions, and the newest of all."""

    pinned: SignedRoot
    chain: tuple[SignedRoot, ...]
    newest: Root

    def with_chain(self, other: Sequence[SignedRoot]) -> Roots:
        """These, or those of a member list that go further. Raises `Refused` where they part."""
        longer = self.chain if len(self.chain) >= len(other) else tuple(other)
        for one, another in zip(self.chain, other, strict=False):
            if one.root != another.root:
                raise UsageError(
                    f"there are two root versions {one.root.version} of {one.root.federation}; compare fingerprints with the other officers"
                )
        return Roots(self.pinned, longer, follow(self.pinned, longer))


def read_roots(files: Sequence[Path]) -> Roots:
    """What the `RootFiles` lead to. Raises `CovenantError` for a draft or a chain that leads nowhere."""
    pinned, *chain = (load_document(path, SignedRoot) for path in files)
    return Roots(pinned, tuple(chain), follow(pinned, chain))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a document is signed by one version of the root."""

    version: int
    quorum: int
    signed: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def lacking(self) -> int:
        """How many signatures are missing."""
        return max(0, self.quorum - len(self.signed))

    @property
    def words(self) -> str:
        """For people."""
        by = f" by {', '.join(self.signed)}" if self.signed else ""
        more = f"; {self.lacking} more of {', '.join(self.others)} must sign" if self.lacking else ""
        return f"root version {self.version}: {len(self.signed)} of {self.quorum} signatures{by}{more}"

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "root_version": self.version,
            "quorum": self.quorum,
            "signed": list(self.signed),
            "lacking": self.lacking,
        }


def standings(signed: Callable[[Root], tuple[str, ...]], roots: Iterable[Root]) -> list[Standing]:
    """How far a document is signed by each of `roots`; `signed` names those of one who have. Raises `Refused` for a wrong signature."""
    found = []
    for root in roots:
        names = signed(root)
        others = tuple(each.name for each in root.keys if each.name not in names)
        found.append(Standing(version=root.version, quorum=root.quorum, signed=names, others=others))
    return found


def show_standings(what: str, found: Sequence[Standing], path: Path) -> None:
    """Say how far a document is signed, and whether that is enough."""
    for each in found:
        people.print(each.words, highlight=False)
    lacking = max(each.lacking for each in found)
    if lacking:
        people.print(f"{what} is a draft: it needs {lacking} more: {path}", highlight=False)
    else:
        people.print(f"{what} is signed: {path}", highlight=False)
