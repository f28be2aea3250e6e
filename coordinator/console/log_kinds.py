"""What kinds of entries the log has, in words for lists and forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from coordinator.console.texts import _

LABELS: Final[Mapping[str, str]] = {
    "members": _("Member list signed"),
    "plan": _("Plan recorded"),
    "proposed": _("Plan proposed"),
    "approved": _("Plan approved"),
    "launch": _("Run launched"),
    "witnessed": _("Run witnessed"),
    "prepared": _("Run prepared"),
    "settled": _("Sum settled"),
    "round": _("Round committed"),
    "evaluated": _("Round evaluated"),
    "voided": _("Attempt voided"),
    "refused": _("Site refused"),
    "ended": _("Run ended"),
    "resumed": _("Run resumed"),
    "given-up": _("Reservation given up"),
    "ceiling": _("Ceiling set"),
    "adopted": _("Charges adopted"),
    "model": _("Model registered"),
    "model-moved": _("Model moved"),
    "model-aliased": _("Model's alias set"),
    "model-signed": _("Model signed"),
    "model-approved": _("Model approved"),
    "model-noted": _("Model noted"),
    "gate": _("Gate judged"),
    "personal": _("Model personalised"),
    "policy": _("Policy pack published"),
    "judged": _("Policy judged"),
    "policy-in-force": _("Policy pack in effect"),
    "target-added": _("Target added"),
    "deployed": _("Order to a target"),
    "rollout-moved": _("Rollout moved"),
    "recalled": _("Model recalled"),
    "recall-confirmed": _("Recall confirmed"),
    "monitor-added": _("Model watched"),
    "drift-alarm": _("Drift alarm"),
    "drift-acknowledged": _("Drift alarm acknowledged"),
    "retraining-drafted": _("Retraining drafted"),
    "retraining-decided": _("Retraining adopted, dismissed or expired"),
    "retraining-launched": _("Retraining launched by policy"),
    "halted": _("Halted"),
    "halt-lifted": _("Halt lifted"),
    "access": _("Access granted"),
    "denied": _("Call refused"),
    "enrolment-denied": _("Enrolment refused"),
    "gap": _("Gap declared"),
}
