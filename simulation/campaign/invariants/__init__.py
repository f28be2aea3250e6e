"""What must always hold. Each part of the product registers its own, in a module of its own beside this one."""

from __future__ import annotations

import importlib
import pkgutil

from simulation.campaign.invariants.base import Invariant, Scene, Violation, registered

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Invariant", "Scene", "Violation", "registered"]
