"""The pages, one module a part of the menu; each brings its routes."""

from __future__ import annotations

from typing import Final

from coordinator.console.pages import account, halt, overview, plans, signin
from coordinator.console.routes import Route

ROUTES: Final[tuple[Route, ...]] = (
    *signin.ROUTES,
    *account.ROUTES,
    *overview.ROUTES,
    *halt.ROUTES,
    *plans.ROUTES,
)
