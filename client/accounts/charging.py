"""Charges the site's account for what a run asks for, or refuses in its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import structlog

from client.accounts.book import AccountBook, ChargeReceipt, Occasion
from client.admission.documents import Accepted
from client.refusal import TaskRefused
from protos.frames import RefusalCode, Statement
from protos.site_data import AccountRule
from strategies.dp.budget import BudgetRefused
from strategies.dp.events import Release
from strategies.ids import RunId

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Charging:
    """The accounts of one site as a run of `federation` meets them. Raises `TaskRefused` where an account does not allow it."""

    book: AccountBook
    federation: str

    def foresee(self, accepted: Accepted, run: RunId) -> None:
        """Refuse a run that the account could not pay to its end; one that has begun is judged charge by charge."""
        if accepted.releases is None:
            return
        rule = _rule(accepted)
        begun = self.book.charges(accepted.population, rule.unit.unit)
        if not any(each.occasion.run == run for each in begun):
            self._allowed(lambda: self.book.require(accepted.population, rule, _planned(accepted)))

    def charge(self, accepted: Accepted, release: Release, said: Statement) -> ChargeReceipt:
        """Charge `release` for the attempt of `said`; on return it is on disk."""
        occasion = Occasion(
            federation=self.federation,
            plan=said.plan_digest,
            run=said.run,
            stage=said.stage.name.lower(),
            round=said.round,
            attempt=said.attempt,
        )
        rule = _rule(accepted)
        self._require_planned(accepted, rule, occasion)
        receipt = self._allowed(lambda: self.book.charge(accepted.population, rule, release, occasion))
        self._alert(accepted, rule, receipt)
        return receipt

    def _require_planned(self, accepted: Accepted, rule: AccountRule, occasion: Occasion) -> None:
        """A run has as many attempts at a stage as its plan says, aborted ones included: what an approver saw is what may be spent."""
        planned = 0 if accepted.releases is None else accepted.releases.times(occasion.stage)
        charged = self.book.attempts(accepted.population, rule.unit.unit, occasion.run, occasion.stage)
        if charged >= planned:
            raise TaskRefused(
                RefusalCode.BUDGET,
                f"this site has sent {charged} inputs to the {occasion.stage} stage of {occasion.run}, which is all that its plan has, with"
                " retries; launch a new run, or plan more retries",
            )

    def _alert(self, accepted: Accepted, rule: AccountRule, receipt: ChargeReceipt) -> None:
        """Tell the site's operator when a charge takes the account past one of its fractions."""
        crossed = [fraction for fraction in rule.alert_at if receipt.was < fraction <= receipt.now]
        if crossed:
            account = self.book.account(accepted.population, rule)
            _log.warning(
                "account",
                population=accepted.population,
                spent=account.guarantee().words,
                ceiling=account.ceiling.words,
                beyond=max(crossed),
            )

    @staticmethod
    def _allowed(step: Callable[[], T]) -> T:
        try:
            return step()
        except BudgetRefused as refused:
            raise TaskRefused(RefusalCode.BUDGET, str(refused)) from refused


def _planned(accepted: Accepted) -> Mapping[Release, int]:
    return {} if accepted.releases is None else accepted.releases.planned()


def _rule(accepted: Accepted) -> AccountRule:
    rule = accepted.source.account
    if rule is None:
        raise TaskRefused(
            RefusalCode.POLICY, f"`data.{accepted.population}.account` is not configured at this site"
        )
    return rule
