"""The privacy ledger of the centre: what each site's population has lost, may lose, and has promised to lose."""

from coordinator.ledger.needs import AccountKey, Need, Planned
from coordinator.ledger.store import Ledger

__all__ = ["AccountKey", "Ledger", "Need", "Planned"]
