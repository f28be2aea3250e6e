"""The pages, one module a part of the menu; each brings its routes."""

from __future__ import annotations

from typing import Final

from coordinator.console.pages import (
    account,
    account_budget,
    budgets,
    deployment,
    deployment_acts,
    deployments,
    diagnosis,
    halt,
    log,
    log_head,
    model,
    model_acts,
    model_compare,
    model_evidence,
    model_lineage,
    models,
    overview,
    plans,
    runs,
    signin,
    sites,
    what_if,
)
from coordinator.console.routes import Route

ROUTES: Final[tuple[Route, ...]] = (
    *account.ROUTES,
    *account_budget.ROUTES,
    *budgets.ROUTES,
    *deployment.ROUTES,
    *deployment_acts.ROUTES,
    *deployments.ROUTES,
    *diagnosis.ROUTES,
    *halt.ROUTES,
    *log.ROUTES,
    *log_head.ROUTES,
    *model.ROUTES,
    *model_acts.ROUTES,
    *model_compare.ROUTES,
    *model_evidence.ROUTES,
    *model_lineage.ROUTES,
    *models.ROUTES,
    *overview.ROUTES,
    *plans.ROUTES,
    *runs.ROUTES,
    *signin.ROUTES,
    *sites.ROUTES,
    *what_if.ROUTES,
)
