"""The coordinator's database: the truth about sites, runs, rounds, models and what privacy was spent."""

from coordinator.db import console_schema as _console_schema
from coordinator.db import deploy_schema as _deploy_schema
from coordinator.db import enrolment_schema as _enrolment_schema
from coordinator.db import evidence_schema as _evidence_schema
from coordinator.db import gate_schema as _gate_schema
from coordinator.db import halt_schema as _halt_schema
from coordinator.db import ledger_schema as _ledger_schema  # their tables belong to the one metadata
from coordinator.db import log_schema as _log_schema
from coordinator.db import loop_schema as _loop_schema
from coordinator.db import monitor_schema as _monitor_schema
from coordinator.db import office_schema as _office_schema
from coordinator.db import policy_schema as _policy_schema
from coordinator.db import recovery_schema as _recovery_schema
from coordinator.db import registry_schema as _registry_schema
from coordinator.db import witness_schema as _witness_schema
from coordinator.db.engine import open_database, reading, writing
from coordinator.db.migrate import migrate

del (
    _console_schema,
    _deploy_schema,
    _enrolment_schema,
    _evidence_schema,
    _gate_schema,
    _halt_schema,
    _ledger_schema,
    _log_schema,
    _loop_schema,
    _monitor_schema,
    _office_schema,
    _policy_schema,
    _recovery_schema,
    _registry_schema,
    _witness_schema,
)
__all__ = ["migrate", "open_database", "reading", "writing"]
