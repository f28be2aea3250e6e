"""Who may call what. A method without a rule here is served to nobody: the server does not start with one.

1. Who decides does not carry out: engineers propose and launch, privacy officers and model risk approve, and no role does both.
2. Whoever proposes, decides or runs the machines may stop a run; only an engineer opens it again. Everybody may halt; who lifts is
   `protos.halts.LIFT_RULE`.
3. Officers approve a version; an engineer then brings it to where it runs, and lets it go on. Whoever approves or engineers may take it back or recall
   it: to stop is safe. Targets are an admin's.
4. Engineers and model risk have models watched and acknowledge alarms, and have retraining drafted or thrown away: nobody can do that unseen, since it
   is in the log. Engineers adopt drafts, as they propose plans.
5. An admin and a site's operator are given no proposed plans, models or accounts. Everybody may read the log, which has the plans that were
   launched and what was charged for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protos.halt_lifts import LIFT_RULE
from protos.membership import Role


@dataclass(frozen=True, slots=True)
class Rule:
    """The roles that may call a method, and whether it changes something, so that a refusal is told to the log."""

    roles: frozenset[Role]
    changes: bool = False


def _reads(roles: Iterable[Role]) -> Rule:
    return Rule(frozenset(roles))


def _changes(*roles: Role) -> Rule:
    return Rule(frozenset(roles), changes=True)


_EVERYBODY: Final = frozenset(Role)
_READERS: Final = frozenset({Role.ML_ENGINEER, Role.PRIVACY_OFFICER, Role.MODEL_RISK, Role.AUDITOR})

RULES: Final[dict[str, Rule]] = {
    "covenant.control.v1.Runs/LaunchRun": _changes(Role.ML_ENGINEER),
    "covenant.control.v1.Runs/ListRuns": _reads(_EVERYBODY),
    "covenant.control.v1.Runs/GetRun": _reads(_EVERYBODY),
    "covenant.control.v1.Runs/WatchRun": _reads(_EVERYBODY),
    "covenant.control.v1.Runs/StopRun": _changes(
        Role.ML_ENGINEER, Role.PRIVACY_OFFICER, Role.MODEL_RISK, Role.ADMIN
    ),
    "covenant.control.v1.Runs/ResumeRun": _changes(Role.ML_ENGINEER),
    "covenant.control.v1.Models/ListModels": _reads(_READERS),
    "covenant.control.v1.Models/GetModel": _reads(_READERS),
    "covenant.control.v1.Models/TellPersonal": _changes(Role.SITE_OPERATOR, Role.ML_ENGINEER),
    "covenant.control.v1.Models/GetStanding": _reads(_READERS),
    "covenant.control.v1.Models/ApproveModel": _changes(Role.PRIVACY_OFFICER, Role.MODEL_RISK),
    "covenant.control.v1.Models/StateModel": _changes(
        Role.ML_ENGINEER, Role.PRIVACY_OFFICER, Role.MODEL_RISK
    ),
    "covenant.control.v1.Models/MoveModel": _changes(Role.PRIVACY_OFFICER, Role.MODEL_RISK),
    "covenant.control.v1.Models/NameModel": _changes(Role.ML_ENGINEER),
    "covenant.control.v1.Models/GetLineage": _reads(_READERS),
    "covenant.control.v1.Models/ValidateModel": _changes(Role.ML_ENGINEER, Role.MODEL_RISK),
    "covenant.deploy.v1.Deployments/AddTarget": _changes(Role.ADMIN),
    "covenant.deploy.v1.Deployments/StartRollout": _changes(Role.ML_ENGINEER),
    "covenant.deploy.v1.Deployments/PromoteRollout": _changes(Role.ML_ENGINEER),
    "covenant.deploy.v1.Deployments/RenewRelease": _changes(Role.ML_ENGINEER),
    "covenant.deploy.v1.Deployments/RollBack": _changes(
        Role.ML_ENGINEER, Role.PRIVACY_OFFICER, Role.MODEL_RISK
    ),
    "covenant.deploy.v1.Deployments/RecallModel": _changes(
        Role.ML_ENGINEER, Role.PRIVACY_OFFICER, Role.MODEL_RISK
    ),
    "covenant.deploy.v1.Deployments/ListTargets": _reads({*_READERS, Role.ADMIN}),
    "covenant.deploy.v1.Deployments/ListRollouts": _reads(_READERS),
    "covenant.deploy.v1.Deployments/ListOrders": _reads({*_READERS, Role.ADMIN}),
    "covenant.deploy.v1.Deployments/ListRunning": _reads(_READERS),
    "covenant.deploy.v1.Deployments/ListRecalls": _reads(_READERS),
    "covenant.monitor.v1.Monitors/WatchModel": _changes(Role.ML_ENGINEER, Role.MODEL_RISK),
    "covenant.monitor.v1.Monitors/AcknowledgeAlarm": _changes(Role.ML_ENGINEER, Role.MODEL_RISK),
    "covenant.monitor.v1.Monitors/ImportWindows": _changes(Role.ML_ENGINEER),
    "covenant.monitor.v1.Monitors/RetryAlert": _changes(Role.ML_ENGINEER, Role.ADMIN),
    "covenant.monitor.v1.Monitors/ListMonitors": _reads(_READERS),
    "covenant.monitor.v1.Monitors/GetWindows": _reads(_READERS),
    "covenant.monitor.v1.Monitors/ListAlarms": _reads(_READERS),
    "covenant.monitor.v1.Monitors/ListAlerts": _reads({*_READERS, Role.ADMIN}),
    "covenant.loop.v1.Loop/GetStatus": _reads(_READERS),
    "covenant.loop.v1.Loop/ListDrafts": _reads(_READERS),
    "covenant.loop.v1.Loop/GetDraft": _reads(_READERS),
    "covenant.loop.v1.Loop/AdvisePlan": _reads(_READERS),
    "covenant.loop.v1.Loop/DraftRetraining": _changes(Role.ML_ENGINEER, Role.MODEL_RISK),
    "covenant.loop.v1.Loop/AdoptDraft": _changes(Role.ML_ENGINEER),
    "covenant.loop.v1.Loop/DismissDraft": _changes(Role.ML_ENGINEER, Role.MODEL_RISK),
    "covenant.governance.v1.Plans/ProposePlan": _changes(Role.ML_ENGINEER),
    "covenant.governance.v1.Plans/ApprovePlan": _changes(Role.PRIVACY_OFFICER, Role.MODEL_RISK),
    "covenant.governance.v1.Plans/GetPlan": _reads(_READERS),
    "covenant.governance.v1.Plans/ListPlans": _reads(_READERS),
    "covenant.governance.v1.Plans/CommentPlan": _changes(*_READERS),
    "covenant.governance.v1.Plans/ListComments": _reads(_READERS),
    "covenant.governance.v1.Log/GetCheckpoint": _reads(_EVERYBODY),
    "covenant.governance.v1.Log/ListEntries": _reads(_EVERYBODY),
    "covenant.governance.v1.Log/GetInclusion": _reads(_EVERYBODY),
    "covenant.governance.v1.Log/GetConsistency": _reads(_EVERYBODY),
    "covenant.governance.v1.Log/Export": _reads(_EVERYBODY),
    "covenant.governance.v1.Log/WatchEvents": _reads(_EVERYBODY),
    "covenant.governance.v1.Ledger/ListAccounts": _reads(_READERS),
    "covenant.governance.v1.Ledger/GetAccount": _reads(_READERS),
    "covenant.governance.v1.Ledger/DraftCeiling": _reads({Role.PRIVACY_OFFICER, Role.MODEL_RISK}),
    "covenant.governance.v1.Ledger/ApplyCeiling": _changes(Role.PRIVACY_OFFICER),
    "covenant.governance.v1.Halts/GiveHalt": _changes(*Role),
    "covenant.governance.v1.Halts/SayLift": _changes(*LIFT_RULE.roles),
    "covenant.governance.v1.Halts/GetHalt": _reads(_EVERYBODY),
    "covenant.governance.v1.Halts/ListHalts": _reads(_EVERYBODY),
    "covenant.governance.v1.Members/GetMembers": _reads(_EVERYBODY),
    "covenant.policy.v1.Policies/PublishPack": _changes(Role.PRIVACY_OFFICER, Role.MODEL_RISK),
    "covenant.policy.v1.Policies/ListPacks": _reads(_EVERYBODY),
    "covenant.policy.v1.Policies/ListJudgements": _reads(_READERS),
    "covenant.policy.v1.Policies/SimulatePack": _reads(_READERS),
    "covenant.policy.v1.Policies/JudgePlan": _reads(_READERS),
    "covenant.policy.v1.Policies/JudgeModel": _reads(_READERS),
    "grpc.health.v1.Health/Check": _reads(_EVERYBODY),
    "grpc.health.v1.Health/Watch": _reads(_EVERYBODY),
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _reads(_EVERYBODY),
}
"""By method, as gRPC names it."""
