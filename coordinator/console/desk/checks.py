"""What a desk checks, one thing after the other, before anything can be signed. A check that fails ends the list: what comes after rests on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from strategies.errors import CovenantError, Refused, Unreachable

T = TypeVar("T")
State = Literal["good", "bad", "open"]


class CheckFailed(Refused):
    """A check did not hold; the list of checks has it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `words` say what was found, or what is wrong. An open one was not made, because one before it failed."""

    name: str
    state: State
    words: str


@dataclass
class Checks:
    """The list, in order."""

    made: list[Check] = field(default_factory=list)

    def hold(self, name: str, make: Callable[[], T], words: Callable[[T], str]) -> T:
        """Make a check; returns what it found. Raises CheckFailed where it does not hold, and Unreachable where nobody answered."""
        try:
            found = make()
            said = words(found)
        except Unreachable:
            raise
        except CovenantError as error:
            self.made.append(Check(name, "bad", str(error)))
            raise CheckFailed(f"{name}: {error}") from error
        self.made.append(Check(name, "good", said))
        return found

    def open(self, names: Sequence[str]) -> None:
        """Those of `names` that were not come to."""
        made = {each.name for each in self.made}
        self.made.extend(
            Check(name, "open", "not looked at, because a check before it failed")
            for name in names
            if name not in made
        )

    @property
    def hold_all(self) -> bool:
        """Whether every check holds."""
        return bool(self.made) and all(each.state == "good" for each in self.made)

    @property
    def failed(self) -> Check | None:
        """The check that failed, if one did."""
        return next((each for each in self.made if each.state == "bad"), None)


@contextmanager
def stopping() -> Iterator[None]:
    """A block that ends early where a check fails."""
    try:
        yield
    except CheckFailed:
        return
