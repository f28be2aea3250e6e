"""What can go wrong, told apart by what the operator does next.

Each message is one sentence that says what was refused, where, which value, and what would be accepted. The exit code
is what `covenant` and `covenant-agent` return when the error reaches the top.

1. `UsageError`: an argument or a document is wrong; edit it and try again.
2. `Refused`: a value from another party, the data, a policy or a person stands in the way.
3. `Unreachable`: the other end did not answer; try again later.
4. `DiskError`: a disk failed; mend it, then start the process again.
"""

from typing import ClassVar


class CovenantError(Exception):
    """A failure with a sentence an operator can act on."""

    exit_code: ClassVar[int] = 1


class DiskError(CovenantError):
    """A write or a flush failed. The process must end and may not try again: what the kernel could not write it may have dropped,
    and a second flush would then succeed without it."""


class UsageError(CovenantError):
    """An argument, a setting or a document is wrong."""

    exit_code: ClassVar[int] = 2


class Refused(CovenantError):  # noqa: N818  (a refusal is an outcome, not a defect)
    """The data, a policy, a budget or a person does not allow this, or another party sent what may not be used."""

    exit_code: ClassVar[int] = 3


class Unreachable(CovenantError):  # noqa: N818  (names the state of the other end)
    """The other end could not be reached in time."""

    exit_code: ClassVar[int] = 4
