"""A coordinator that launches what nobody approved: every real agent refuses by itself, and nothing is computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.db.engine import writing
from coordinator.db.schema import Run
from coordinator.documents import read_evidence, read_plan
from coordinator.rounds.question import RunDocuments
from coordinator.runs import carry, record
from protos.approvals import PlanEvidence, PlanStatement, approve, author
from protos.contract import Contract
from protos.documents import load_document
from protos.keys import SigningKey
from protos.membership import Role
from protos.passphrases import read_passphrase
from protos.plan import Plan
from protos.root import SignedRoot
from strategies.encoding import canonical_json
from strategies.ids import Digest, RunId
from tests.e2e.conftest import ROUNDS, Federation

pytestmark = [pytest.mark.engine, pytest.mark.slow]
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


def launched_unapproved(federation: Federation, plan_file: Path, evidence: bytes) -> RunId:
    """What a coordinator can do that asks nobody: write a run into its own database, and start it."""
    centre = federation.deployment.centre()
    plan, contract = read_plan(plan_file)
    run = centre.new_run_id()
    members = federation.deployment.members.read_bytes().strip()
    record(centre, RunDocuments(run=run, plan=plan, contract=contract, members=members))
    with writing(centre.engine, "giving a run evidence that nobody checked") as session:
        session.get_one(Run, run).evidence = evidence.decode() or None
    carry(centre, run)
    return run


def signer(federation: Federation, name: str) -> SigningKey:
    officers = federation.deployment.officers
    return SigningKey.load(officers.key(name), read_passphrase(officers.passphrase(name)))


def identity(federation: Federation) -> Digest:
    return load_document(federation.deployment.officers.root, SignedRoot).root.identity


def said(federation: Federation, plan: Plan, contract: Contract, name: str, role: Role) -> PlanStatement:
    key = signer(federation, name)
    if role is Role.ML_ENGINEER:
        return author(plan, contract, name, key, federation=identity(federation), expires=SOON)
    return approve(plan, contract, name, role, key, federation=identity(federation), expires=SOON)


def nothing(_: Federation, __: Path) -> bytes:
    return b""


def of_another_plan(federation: Federation, _: Path) -> bytes:
    other = federation.variant("approved", seed="99")
    federation.deployment.approve(other)
    return read_evidence(other).canonical


def by_the_author(federation: Federation, plan_file: Path) -> bytes:
    """The author signs for a role as well, which no document of this program can say."""
    documents = read_plan(plan_file)
    statements = [
        said(federation, *documents, "ml-engineer", Role.ML_ENGINEER),
        said(federation, *documents, "ml-engineer", Role.PRIVACY_OFFICER),
        said(federation, *documents, "model-risk", Role.MODEL_RISK),
    ]
    written = [json.loads(each.canonical) for each in statements]
    return canonical_json({"covenant": "plan-evidence/v1", "statements": written})


def in_a_role_of_another(federation: Federation, plan_file: Path) -> bytes:
    """The coordinator's own key, in the name of the privacy officer."""
    documents = read_plan(plan_file)
    forged = approve(
        *documents,
        "privacy-officer",
        Role.PRIVACY_OFFICER,
        SigningKey.generate(),
        federation=identity(federation),
        expires=SOON,
    )
    return PlanEvidence(
        statements=(
            said(federation, *documents, "ml-engineer", Role.ML_ENGINEER),
            said(federation, *documents, "model-risk", Role.MODEL_RISK),
            forged,
        )
    ).canonical


def refused_by(federation: Federation, run: RunId, words: str) -> list[str]:
    """The sites whose own log says that they refused `run` because of a signature, in these `words`."""
    found = []
    for site in federation.sites:
        for line in federation.log(site).splitlines():
            if run in line and '"SIGNATURE"' in line and words in line:
                found.append(site)
                break
    return found


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (nothing, "nobody has signed plan"),
        (of_another_plan, "a plan with one changed value is another plan"),
        (by_the_author, "ml-engineer is the author and approves"),
        (in_a_role_of_another, "is not signed with the key of privacy-officer"),
    ],
    ids=["nothing", "of another plan", "by the author", "in the name of another"],
)
def test_no_agent_computes_what_was_not_approved(
    federation: Federation,
    failing: Callable[[Federation, RunId], str],
    evidence: Callable[[Federation, Path], bytes],
    words: str,
) -> None:
    plan = federation.variant(f"unapproved-{evidence.__name__.replace('_', '-')}", minimum="4")
    run = launched_unapproved(federation, plan, evidence(federation, plan))
    reason = failing(federation, run)
    assert "refused (signature)" in reason
    assert words in reason
    assert federation.view(run).committed == 0
    assert sorted(refused_by(federation, run, words)) == sorted(federation.sites)
    assert not any("data loaded" in federation.log(site) for site in federation.sites)


def test_the_same_plan_is_carried_out_once_it_is_approved(federation: Federation) -> None:
    """The control of the test before, at agents that have refused it."""
    run = federation.launch(federation.variant("unapproved-nothing", minimum="4"))
    assert federation.finish(run).committed == ROUNDS
    assert all("data loaded" in federation.log(site) for site in federation.sites)
