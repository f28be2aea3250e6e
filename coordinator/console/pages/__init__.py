"""The pages, one module a part of the menu; each brings its routes."""

from __future__ import annotations

from typing import Final

from coordinator.console.pages import account, account_budget, budgets, halt, overview, signin, what_if
from coordinator.console.routes import Route

ROUTES: Final[tuple[Route, ...]] = (
    *signin.ROUTES,
    *account.ROUTES,
    *overview.ROUTES,
    *halt.ROUTES,
    *budgets.ROUTES,
    *account_budget.ROUTES,
    *what_if.ROUTES,
)
