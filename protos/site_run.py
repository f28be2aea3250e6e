"""How much of its machine a site gives, and when: `run` in site.yaml.

1. A window's times are those of a wall clock in its zone. It belongs to the day on which it opens, also where it goes on over midnight.
2. Of an hour that comes twice, when clocks are set back, a time is the first; a time that does not come, when they are set forward, is as much later.
3. A window is open from its first moment to before its last.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from typing import Annotated, Final, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from protos.documents import FieldError, Part
from protos.names import matching
from protos.quantities import Duration, Size

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEK: Final = 7
_MIDNIGHT: Final = "24:00"
_LEAST_MEMORY: Final = 256 << 20


def _weekdays(text: str) -> frozenset[int]:
    """The days of `daily`, `mon-fri`, `sat,sun` or `fri-mon`, as numbers from 0 for Monday. Raises ValueError."""
    if text == "daily":
        return frozenset(range(_WEEK))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise ValueError(
                f"use daily, or days such as mon-fri or sat,sun: {part.strip()!r} is none of {', '.join(_DAYS)}"
            )
        begin = _DAYS.index(first)
        length = (_DAYS.index(last or first) - begin) % _WEEK
        found |= {(begin + step) % _WEEK for step in range(length + 1)}
    return frozenset(found)


def _days(text: str) -> str:
    _weekdays(text)
    return text


def _zone(text: str) -> str:
    known = available_timezones()
    if text not in known:
        near = get_close_matches(text, known, n=1)
        raise ValueError(f"use a zone of the zone database, such as {near[0] if near else 'Europe/Oslo'}")
    return text


_OPENS = Annotated[str, matching(r"([01][0-9]|2[0-3]):[0-5][0-9]", 'a time in quotes, such as "20:00"')]
_CLOSES = Annotated[
    str, matching(r"([01][0-9]|2[0-3]):[0-5][0-9]|24:00", 'a time in quotes, such as "06:00", or "24:00"')
]


@dataclass(frozen=True, slots=True)
class Opening:
    """A stretch of time in which a window is open: from `begins` to before `ends`, both in UTC."""

    begins: datetime
    ends: datetime

    def holds(self, now: datetime) -> bool:
        """Whether `now` is in it."""
        return self.begins <= now < self.ends


class Window(Part):
    """When the agent takes part."""

    model_config = ConfigDict(serialize_by_alias=True)

    days: Annotated[str, AfterValidator(_days)] = "daily"
    opens: Annotated[_OPENS, Field(alias="from")]
    closes: Annotated[_CLOSES, Field(alias="to")]
    zone: Annotated[str, AfterValidator(_zone)]

    @model_validator(mode="after")
    def _has_a_length(self) -> Self:
        if self.opens == self.closes:
            raise FieldError(
                "to",
                f'{self.closes} is when the window opens; write from: "00:00" and to: "24:00" for whole days',
            )
        return self

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.days} {self.opens} to {self.closes}, {self.zone}"

    def opening(self, now: datetime) -> Opening:
        """The stretch that is open at `now`, or the next one."""
        today = now.astimezone(ZoneInfo(self.zone)).date()
        return next(each for each in self._openings(today) if now < each.ends)

    def is_open(self, now: datetime) -> bool:
        """Whether the agent takes part at `now`."""
        return self.opening(now).holds(now)

    def _openings(self, today: date) -> Iterator[Opening]:
        """Those that begin yesterday or later, as far as there are any of some length: an hour that does not come may leave none."""
        chosen = _weekdays(self.days)
        for step in range(-1, 2 * _WEEK):
            day = today + timedelta(days=step)
            if day.weekday() in chosen:
                found = Opening(self._moment(day, self.opens), self._moment(self._last_day(day), self.closes))
                if found.begins < found.ends:
                    yield found

    def _last_day(self, day: date) -> date:
        """The day on which a window closes that opens on `day`."""
        return day if self.opens < self.closes != _MIDNIGHT else day + timedelta(days=1)

    def _moment(self, day: date, at: str) -> datetime:
        clock = time() if at == _MIDNIGHT else time.fromisoformat(at)
        return datetime.combine(day, clock, ZoneInfo(self.zone)).astimezone(UTC)


def _enough(size: int) -> int:
    if size < _LEAST_MEMORY:
        raise ValueError("use 256 MiB or more: the agent's libraries need most of that")
    return size


class Run(Part):
    """How much of the machine the agent takes, when, and how often it asks for work (seconds)."""

    window: Window | None = None
    """Always, unless it is written down."""
    cpu_threads: Annotated[int, Field(ge=1, le=256)] = 1
    memory: Annotated[Size, AfterValidator(_enough)] | None = None
    """The most that the process may allocate for itself, in bytes; no limit unless it is written down."""
    priority: Annotated[int, Field(ge=0, le=19)] = 0
    """The process's niceness: 19 gives way to everybody."""
    idle_poll: Duration = 1.0
    busy_poll: Duration = 0.025

    @model_validator(mode="after")
    def _busy_is_not_slower(self) -> Self:
        if self.busy_poll > self.idle_poll:
            raise FieldError(
                "busy_poll",
                f"{self.busy_poll} s is longer than idle_poll, {self.idle_poll} s; make it shorter",
            )
        return self
