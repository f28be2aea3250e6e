"""Whether a run was launched in the transparency log as a site is asked to carry it out: the same run, plan, contract, approvals and member list.

Nothing that the coordinator says beside the log counts: both entries are shown to be in the log of the head that the site is about to sign.
"""

from __future__ import annotations

from client.admission.documents import Accepted
from protos.frames import WitnessRequest
from protos.log_entries import LogEntry, PlanRecorded, RunLaunched, What
from protos.log_proofs import LogLeaf
from strategies.errors import Refused
from strategies.transparency.notes import Checkpoint


def require_launched(request: WitnessRequest, accepted: Accepted, head: Checkpoint) -> None:
    """Check that the launch of the run, and its plan before it, are in the log of `head` as they were accepted. Raises Refused."""
    launch, plan = _in_log(request.launch, head), _in_log(request.plan, head)
    if not isinstance(launch, RunLaunched) or launch.run != request.run:
        raise Refused(f"entry {request.launch.seq} of the log is not the launch of {request.run}")
    if not isinstance(plan, PlanRecorded) or request.plan.seq >= request.launch.seq:
        raise Refused(
            f"entry {request.plan.seq} of the log is not that of a plan from before the launch of {request.run}"
        )
    evidence = accepted.evidence.digest if accepted.evidence.statements else None
    logged = None if plan.evidence is None else plan.evidence.digest
    for what, sent, launched, recorded in (
        ("plan", accepted.plan.digest, launch.plan, plan.plan.digest),
        ("data contract", accepted.contract.digest, launch.contract, plan.contract.digest),
        ("list of approvals", evidence, launch.evidence, logged),
        ("member list", accepted.members_digest, launch.members, accepted.members_digest),
    ):
        if not sent == launched == recorded:
            raise Refused(
                f"the log has another {what} for {request.run} than this site was sent: {launched} against {sent}"
            )


def _in_log(leaf: LogLeaf, head: Checkpoint) -> What:
    """An entry, if it is in the log of `head`."""
    leaf.require_in(head)
    return LogEntry.from_canonical(leaf.body).what
