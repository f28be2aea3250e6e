"""The pages, one module a part of the menu; each brings its routes."""

from __future__ import annotations

from typing import Final

from coordinator.console.pages import (
    account,
    deployment,
    deployment_acts,
    deployments,
    halt,
    model,
    model_acts,
    model_compare,
    model_evidence,
    model_lineage,
    models,
    overview,
    signin,
)
from coordinator.console.routes import Route

ROUTES: Final[tuple[Route, ...]] = (
    *signin.ROUTES,
    *account.ROUTES,
    *overview.ROUTES,
    *halt.ROUTES,
    *models.ROUTES,
    *model.ROUTES,
    *model_acts.ROUTES,
    *model_compare.ROUTES,
    *model_evidence.ROUTES,
    *model_lineage.ROUTES,
    *deployments.ROUTES,
    *deployment.ROUTES,
    *deployment_acts.ROUTES,
)
