"""What a verified export says, as JSON: for `--json`, for incidents, and for the demo's auditor."""

from __future__ import annotations

from typing import Any

from protos.log_budgets import Budget
from protos.log_deploy import TargetStory
from protos.log_entries import ModelRegistered
from protos.log_export import Verified
from protos.log_gaps import Gap
from protos.log_halts import HaltStory
from protos.log_registry import RegistryStory
from protos.log_runs import RunStory
from protos.root import SignedRoot


def facts_of(found: Verified, pinned: SignedRoot) -> dict[str, Any]:
    """What was verified against the `pinned` root."""
    story = found.story
    return {
        "verified": True,
        "federation": found.federation,
        "fingerprint": pinned.root.fingerprint,
        "entries": found.head.size,
        "root": found.head.root.hex(),
        "log_key": found.log_key.words,
        "witnesses": dict(story.witnesses.sizes),
        "unwitnessed": story.witnesses.unseen,
        "members": None if story.members is None else story.members.ref,
        "gaps": [_gap(each) for each in story.gaps.met],
        "runs": [_run(each) for each in story.runs.values()],
        "models": [_model(story.registry, each) for each in story.models],
        "halts": _halts(story.halts),
        "policies": [
            {
                "pack": each.ref,
                "digest": each.digest,
                "effective_from": each.effective_from.isoformat(),
                "in_force": each.digest in story.policies.in_force,
            }
            for each in story.policies.published.values()
        ],
        "deployments": [_target(name, each) for name, each in sorted(story.deployments.targets.items())],
        "budgets": [_budget(each) for each in story.budgets.standing()],
    }


def _model(registry: RegistryStory, model: ModelRegistered) -> dict[str, Any]:
    story = registry.versions[model.name, model.version]
    aliases = registry.aliases(model.name).items()
    return {
        "model": f"{model.name}@{model.version}",
        "digest": model.digest,
        "run": model.run,
        "stage": str(story.stage),
        "signed": story.signed is not None,
        "approved_by": [[each.officer, str(each.role)] for each in story.approvals],
        "aliases": sorted(alias for alias, version in aliases if version == model.version),
    }


def _target(name: str, target: TargetStory) -> dict[str, Any]:
    served = target.orders[target.confirmed - 1] if target.confirmed else None
    stable = None if served is None or served.stable is None else target.releases[served.stable].released
    return {
        "target": name,
        "serves": None if stable is None else stable.ref,
        "digest": None if stable is None else stable.digest,
        "orders": len(target.orders),
        "confirmed": target.confirmed,
        "rollouts": [
            {"model": f"{each.started.model}@{each.started.version}", "state": str(each.state)}
            for each in target.rollouts.values()
        ],
    }


def _gap(gap: Gap) -> dict[str, Any]:
    declared = gap.sound.declared
    return {
        "entry": gap.seq,
        "kept": declared.kept.model_dump(mode="json"),
        "lost": [each.model_dump(mode="json") for each in declared.lost],
        "reason": declared.reason,
        "signed": list(gap.sound.signed.signed(gap.sound.root)),
    }


def _run(run: RunStory) -> dict[str, Any]:
    return {
        "run": run.run,
        "plan": run.plan.name,
        "plan_digest": run.plan.digest,
        "author": run.approved.author,
        "approved_by": [{"officer": name, "role": str(role)} for name, role in run.approved.approved_by],
        "witnessed_by": sorted(run.witnesses),
        "privacy": run.plan.privacy.mode,
        "state": run.state,
        "rounds": run.committed,
        "sites": sorted(run.survivors),
    }


def _halts(halts: HaltStory) -> list[dict[str, Any]]:
    return [
        {
            "id": each.order.id,
            "what": each.order.what,
            "by": each.order.by.words,
            "at": each.order.at.isoformat(),
            "reason": each.order.reason,
            "stands": each.digest in halts.standing,
        }
        for each in halts.given
    ]


def _budget(budget: Budget) -> dict[str, Any]:
    return {
        "site": budget.account.site,
        "population": budget.account.population,
        "sums": budget.sums,
        "opened": budget.opened.facts(),
        "charged": budget.charged.facts(),
        "ceiling": budget.ceiling.facts(),
        "decisions": [
            {
                "ceiling": each.decision.ceiling,
                "officers": list(each.officers),
                "reason": each.decision.reason,
            }
            for each in budget.decisions
        ],
    }
