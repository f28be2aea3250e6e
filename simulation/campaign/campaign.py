"""Many seeds, side by side; and what to do with one that fails: repeat it, and shrink its schedule to what it takes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass

from simulation.campaign.runner import Played, play
from simulation.quiet import silence_logs
from simulation.repeat import require_equal

_TRACE_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that breaks an invariant, and the smallest part of its schedule that still does."""

    played: Played
    shrunk: Played


def campaign(
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    repeat_every: int = 20,
    progress: Callable[[Played], None] = lambda _: None,
) -> Failure | None:
    """Play `seeds`, every `repeat_every`-th of them twice; the first failure, shrunk, or None.

    Raises `RepeatsDifferentlyError` for a seed whose two traces differ.
    """
    for played in _all(seeds, jobs, repeat_every):
        progress(played)
        if played.invariant is not None:
            return Failure(played, shrink(played))
    return None


def play_twice(seed: int, *, again: Callable[[int], Played] = play) -> Played:
    """Play a seed twice; raises `RepeatsDifferentlyError` with the difference if the traces differ."""
    first, second = again(seed), again(seed)
    lines = [[*map(str, each.lines), each.sentence] for each in (first, second)]
    require_equal(f"seed {seed}", *lines)
    return first


def shrink(failed: Played) -> Played:
    """Leave out one misfortune after another as long as the same invariant still breaks."""
    smallest = failed
    places = list(range(len(failed.misfortunes)) if failed.only is None else failed.only)
    shrinking = True
    while shrinking:
        shrinking = False
        for place in places:
            tried = play(failed.seed, [each for each in places if each != place])
            if tried.invariant == failed.invariant:
                smallest, shrinking = tried, True
                places.remove(place)
                break
    return smallest


def last_steps(played: Played) -> list[str]:
    """The end of a trace, to read."""
    left_out = len(played.lines) - _TRACE_SHOWN
    return [f"... {left_out} steps before"] * (left_out > 0) + list(map(str, played.lines[-_TRACE_SHOWN:]))


def _all(seeds: Sequence[int], jobs: int, repeat_every: int) -> Iterator[Played]:
    if jobs <= 1:
        silence_logs()
        for place, seed in enumerate(seeds):
            yield _one(seed, place % repeat_every == 0)
        return
    # Spawned, because a fork would copy torch's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=silence_logs) as pool:
        waiting: set[Future[Played]] = set()
        try:
            for place, seed in enumerate(seeds):
                waiting.add(pool.submit(_one, seed, place % repeat_every == 0))
                if len(waiting) >= 4 * jobs:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (each.result() for each in done)
            for each in waiting:
                yield each.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _one(seed: int, twice: bool) -> Played:  # noqa: FBT001 (called through a pool)
    return play_twice(seed) if twice else play(seed)
