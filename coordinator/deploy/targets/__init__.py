"""Places where models run, behind one interface."""

from coordinator.deploy.targets.base import Observed, Order, Target
from coordinator.deploy.targets.settings import EdgeSettings, KServeSettings, LocalSettings, TargetSettings

__all__ = ["EdgeSettings", "KServeSettings", "LocalSettings", "Observed", "Order", "Target", "TargetSettings"]
