"""What every target holds to, whatever it is: the suite is inherited, and `Kit` is how a test makes the place say what is in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from coordinator.deploy.targets.base import Order, Target
from protos.rollouts import State
from strategies.errors import Refused


@dataclass
class Kit:
    """A target; `settle` has the place take what it was given; `refuse` has it refuse that; `content` is all that it was given, to the byte."""

    target: Target
    settle: Callable[[], None]
    refuse: Callable[[], None]
    content: Callable[[], dict[str, bytes]]


@dataclass
class Orders:
    """One after the other: a version, the next version beside it, the next version alone, and nothing."""

    first: Order
    trial: Order
    second: Order
    recall: Order


class TargetContract:
    """Inherit it with fixtures `kit` and `orders`."""

    def test_before_anything_was_given_nothing_is_in_force(self, kit: Kit) -> None:
        assert kit.target.observe().revision == 0
        assert kit.target.observe().refused is None

    def test_an_order_is_in_force_when_the_place_says_so(self, kit: Kit, orders: Orders) -> None:
        kit.target.give(orders.first)
        assert kit.target.observe().revision == 0
        kit.settle()
        assert kit.target.observe().revision == orders.first.revision

    def test_the_same_order_again_changes_nothing(self, kit: Kit, orders: Orders) -> None:
        kit.target.give(orders.first)
        kit.settle()
        before = kit.content()
        kit.target.give(orders.first)
        assert kit.content() == before
        assert kit.target.observe().revision == orders.first.revision

    def test_a_newer_order_takes_the_place_of_the_one_before(self, kit: Kit, orders: Orders) -> None:
        for order in (orders.first, orders.second):
            kit.target.give(order)
            kit.settle()
            assert kit.target.observe().revision == order.revision

    def test_an_order_that_was_missed_does_not_matter(self, kit: Kit, orders: Orders) -> None:
        kit.target.give(orders.second)
        kit.settle()
        assert kit.target.observe().revision == orders.second.revision

    def test_an_older_order_is_refused_and_changes_nothing(self, kit: Kit, orders: Orders) -> None:
        kit.target.give(orders.second)
        kit.settle()
        before = kit.content()
        with pytest.raises(Refused, match="another deployment came first"):
            kit.target.give(orders.first)
        assert kit.content() == before
        assert kit.target.observe().revision == orders.second.revision

    def test_a_recall_takes_the_model_out_of_service(self, kit: Kit, orders: Orders) -> None:
        kit.target.give(orders.first)
        kit.settle()
        kit.target.give(orders.recall)
        assert kit.target.observe().revision != orders.recall.revision
        kit.settle()
        assert kit.target.observe().revision == orders.recall.revision

    def test_what_the_place_refuses_is_told(self, kit: Kit, orders: Orders) -> None:
        kit.target.give(orders.first)
        kit.settle()
        kit.target.give(orders.second)
        kit.refuse()
        seen = kit.target.observe()
        assert seen.revision != orders.second.revision
        assert seen.refused is not None
        assert seen.refused[0] == orders.second.revision

    def test_a_trial_runs_where_it_can_and_is_refused_elsewhere(self, kit: Kit, orders: Orders) -> None:
        kit.target.give(orders.first)
        kit.settle()
        if State.CANARY in kit.target.states:
            kit.target.give(orders.trial)
            kit.settle()
            assert kit.target.observe().revision == orders.trial.revision
        else:
            with pytest.raises(Refused, match="no connection"):
                kit.target.give(orders.trial)
            assert kit.target.observe().revision == orders.first.revision
