"""How often an agent asks: seldom when idle, quickly when a round is open, never in step with others."""

import heapq
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.fleet.cadence import Backoff, Cadence, Crowd
from protos.site_run import Run

DEFAULT = Cadence(busy_s=Run().busy_poll, idle_s=Run().idle_poll)
chances = st.floats(0, 1, exclude_max=True)
settings = st.tuples(st.floats(0.001, 10), st.floats(0.001, 10)).map(
    lambda pair: Cadence(busy_s=min(pair), idle_s=max(pair))
)


def polls(cadence: Cadence, quiet_s: float, lasting_s: float, chance=lambda: 0.5) -> int:
    """Polls in `lasting_s` seconds that begin `quiet_s` after the last message."""
    now, count = quiet_s, 0
    while now < quiet_s + lasting_s:
        now += cadence.wait_s(now, chance())
        count += 1
    return count


def test_an_idle_agent_makes_fewer_than_two_requests_a_second():
    assert polls(DEFAULT, 60, 100, random.Random(1).random) < 130
    assert polls(DEFAULT, 60, 100, lambda: 0.0) < 200  # also with the shortest waits that chance gives


def test_an_agent_is_idle_soon_after_the_last_message():
    assert polls(DEFAULT, 20, 100) == pytest.approx(100, abs=1)


def test_a_busy_agent_polls_within_a_few_hundredths_of_a_second():
    assert DEFAULT.wait_s(0.0, 0.5) == pytest.approx(0.025)
    assert max(DEFAULT.wait_s(quiet, 0.999) for quiet in (0.0, 0.1, 0.5)) <= 0.03
    assert polls(DEFAULT, 0.0, 1.0) >= 30


@given(st.floats(0.5, 1e4), chances)
def test_waiting_costs_at_most_a_small_share_of_the_time_that_passed(quiet, chance):
    assert DEFAULT.wait_s(quiet, chance) <= 0.0601 * quiet


@given(settings, st.floats(0, 1e6), chances)
def test_waits_stay_between_busy_and_idle_but_for_their_spread(cadence, quiet, chance):
    wait = cadence.wait_s(quiet, chance)
    assert 0.8 * cadence.busy_s * 0.999 <= wait <= 1.2 * cadence.idle_s * 1.001


@given(settings, st.floats(0, 100), st.floats(0, 100), chances)
def test_the_longer_it_is_quiet_the_longer_is_the_wait(cadence, one, other, chance):
    assert cadence.wait_s(min(one, other), chance) <= cadence.wait_s(max(one, other), chance)


def test_agents_spread():
    assert DEFAULT.wait_s(60, 0.0) == pytest.approx(0.8)
    assert DEFAULT.wait_s(60, 1.0) == pytest.approx(1.2)


@given(settings, st.floats(0, 100), st.floats(0, 100), st.floats(0, 100), chances)
def test_the_later_a_superlink_is_the_longer_is_the_wait_but_never_longer_than_idle(
    cadence, quiet, one, other, chance
):
    waits = [cadence.wait_s(quiet, chance, late) for late in sorted((one, other))]
    assert waits[0] <= waits[1] <= 1.2 * cadence.idle_s * 1.001


def heard(*took_s: float) -> Crowd:
    crowd = Crowd()
    for each in took_s:
        crowd.heard(each)
    return crowd


def test_a_superlink_is_late_by_what_polls_take_longer_than_at_their_best():
    assert heard(0.004).late_s == 0.0
    assert heard(0.004, 0.104, 0.204).late_s == pytest.approx(0.1, rel=0.01)


def test_a_far_superlink_is_not_late():
    assert heard(*[0.2] * 50).late_s == 0.0


def test_one_slow_poll_says_nothing():
    assert heard(0.004, 0.004, 0.9).late_s == pytest.approx(0.0, abs=1e-4)
    assert heard(0.004, 0.9, 0.004).late_s == pytest.approx(0.0, abs=1e-4)


def test_a_line_that_became_slower_for_good_is_its_best_after_some_hundred_polls():
    assert heard(0.004, *[0.05] * 10).late_s > 0.04
    assert heard(0.004, *[0.05] * 400).late_s == 0.0


def waited_s(agents: int, *, gives_way: bool) -> float:
    """How long a request waits on average behind polls of agents that wait for one slow site, at a SuperLink that takes 2 ms for each."""
    service_s, now, free = 0.002, 0.0, 0.0
    chance, crowds = random.Random(1).random, [heard(0.002) for _ in range(agents)]
    due = [(0.025 * chance(), each) for each in range(agents)]
    waits = []
    while now < 20.0:
        now, agent = heapq.heappop(due)
        waits.append(max(free - now, 0.0))
        free = max(now, free) + service_s
        crowds[agent].heard(free - now)
        late_s = crowds[agent].late_s if gives_way else 0.0
        heapq.heappush(due, (free + DEFAULT.wait_s(0.0, chance(), late_s), agent))
    return statistics.mean(waits[len(waits) // 2 :])


def test_a_hundred_agents_that_give_way_leave_room_for_what_counts():
    assert waited_s(100, gives_way=False) > 0.15
    assert waited_s(100, gives_way=True) < 0.05


def test_the_polls_of_a_few_agents_stand_in_nobodys_way():
    assert waited_s(4, gives_way=False) < 0.001
    assert waited_s(4, gives_way=True) < 0.001


def test_back_off_doubles_up_to_its_longest():
    waits = [Backoff().wait_s(failures, 1.0) for failures in range(9)]
    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10])


@given(st.integers(0, 10**9), chances)
def test_back_off_never_hurries_and_never_gives_up(failures, chance):
    assert 0.1 <= Backoff().wait_s(failures, chance) <= 10
