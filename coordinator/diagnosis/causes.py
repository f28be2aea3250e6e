"""What can be wrong with a run, by its signs: one table, from which the command and the runbook's page are both made.

A run keeps why it went as it did in words, and so do its refusals: a sign is a piece of such a sentence, and a test holds each to the code that says it. A cause names what the centre can see. Where something is wrong at a site that the centre does not see into, the next command is one for the site.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """`signs` are regular expressions over what is said of a run; `faults` is what it may have come from, in plain words."""

    name: str
    means: str
    faults: str
    signs: tuple[str, ...]
    next: tuple[str, ...]
    page: str
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", re.compile("|".join(self.signs)))

    def shows_in(self, text: str) -> bool:
        """Whether one of its signs is in `text`."""
        return self._compiled.search(text) is not None


CAUSES: Final[tuple[Cause, ...]] = (
    Cause(
        name="log-forked",
        means="A site has shown that the transparency log was split, set back or changed; nothing is launched before a person has dealt with it.",
        faults="the coordinator's database was restored from an older copy, or somebody changed it",
        signs=(
            r"transparency log (?:had|was|that|.*set back)",
            r"evidence of the log: (?:split|shorter|not extended)",
            r"log was forked",
        ),
        next=("covenant log witnesses",),
        page="a-fork-was-found.md",
    ),
    Cause(
        name="site-set-back",
        means="A site answers from an older state than it has signed before: it was restored from a snapshot, or runs twice.",
        faults="a virtual machine or a folder was set back; a clone of the site was started",
        signs=(r"set back to an older copy of its journal", r"runs twice", r"evidence of the log: set back"),
        next=("covenant log witnesses", "at {site}: covenant-agent witness"),
        page="a-fork-was-found.md",
    ),
    Cause(
        name="halted",
        means="People have halted a site, this run or everything.",
        faults="an order to halt, at the centre or at a site",
        signs=(r"is halted", r"refused \(halted\)", r"\bhalted\b.*: ", r"halt .* stands"),
        next=("covenant halt list",),
        page="halt-and-resume.md",
    ),
    Cause(
        name="disk-full",
        means="A disk of the coordinator was full; nothing that was recorded is lost.",
        faults="no space left where the database or the artifacts are",
        signs=(r"has no space left", r"No space left on device", r"is full"),
        next=("df -h, and free space", "covenant run resume {run}"),
        page="a-run-was-interrupted.md",
    ),
    Cause(
        name="disk-failed",
        means="A disk of the coordinator could not be read or written; the process ended rather than guess what was kept.",
        faults="a failed flush, a failing disk, a volume that went away",
        signs=(r"could not be read or written by the operating system", r"is damaged or is not a database"),
        next=("check the disk and the kernel's log", "covenant serve", "covenant run resume {run}"),
        page="a-run-was-interrupted.md",
    ),
    Cause(
        name="sum-not-opened",
        means="The survivors of a round are recorded and too few of their shares came, so its sum cannot be opened yet.",
        faults="survivors that died, lost their journals, or lie about their shares",
        signs=(r"cannot be opened", r"a sum lacks shares"),
        next=("at the sites that are named: covenant-agent status", "covenant run resume {run}"),
        page="a-sum-was-not-opened.md",
    ),
    Cause(
        name="update-gate",
        means="The mean update of a round was longer than the plan's gate, so nobody goes on from it. The sum hides whose update it was, and sites open one sum a round, so the run cannot be resumed.",
        faults="a site that lies, a wrong contract or a broken column at a site, or a gate below what honest rounds come to",
        signs=(r"and the plan's gate is",),
        next=(
            "ask the sites what changed; covenant halt order, for one that you do not trust",
            "covenant plan check PLAN, which says what honest sites stay within",
        ),
        page="../ml-team/robustness.md",
    ),
    Cause(
        name="clock",
        means="The coordinator's clock was set back behind what its log has, so it decides nothing before that time has come again.",
        faults="a clock that was wrong by minutes or years, or was mended",
        signs=(r"clock was set back", r"set the coordinator's clock"),
        next=("timedatectl status",),
        page="../auditor/log.md",
    ),
    Cause(
        name="budget",
        means="An account has not enough left for what the plan releases.",
        faults="earlier runs, retries, or a ceiling that is lower than the plan's costs",
        signs=(
            r"refused \(budget\)",
            r"would take the account to",
            r"has nothing reserved left for stage",
        ),
        next=("covenant ledger show", "at {site}: covenant-agent budget"),
        page="an-account-is-exhausted.md",
    ),
    Cause(
        name="contract",
        means="The rows of a site do not fit the data contract. The site alone knows which rule.",
        faults="a changed table, a wrong type, a missing column, a class that is not in the contract",
        signs=(r"refused \(contract\)",),
        next=("at {site}: covenant-agent history --run {run}",),
        page="agent-does-not-connect.md",
    ),
    Cause(
        name="policy",
        means="A site's policy does not admit the plan.",
        faults="a purpose, mode, exemption or aggregation that site.yaml does not list",
        signs=(r"refused \(policy\)",),
        next=("at {site}: covenant-agent history --run {run}", "covenant plan check PLAN"),
        page="agent-does-not-connect.md",
    ),
    Cause(
        name="documents-changed",
        means="What a site received is not what was signed: it was changed on its way, or the coordinator's files were.",
        faults="a network, a proxy or a disk that changes bytes; a coordinator that makes documents up",
        signs=(
            r"refused \(signature\).*received",
            r"is not the one that the statement names",
            r"not a frame of this protocol",
            r"not a (?:request|frame|reply|message)",
            r"no (?:request|Flower message)",
            r"bytes that are",
            r"the proof does not lead",
            r"is of a journal under another key",
        ),
        next=("at {site}: covenant-agent history --run {run}", "covenant log verify"),
        page="agent-does-not-connect.md",
    ),
    Cause(
        name="signature",
        means="A site does not accept the signatures on the member list, the plan or the log.",
        faults="approvals that ran out, a newer member list, a root that is not the pinned one",
        signs=(r"refused \(signature\)",),
        next=("covenant plan explain PLAN", "at {site}: covenant-agent history --run {run}"),
        page="keys.md",
    ),
    Cause(
        name="two-questions",
        means="A site was asked one attempt in two ways, or about two histories, and refuses the second: it never answers both.",
        faults="a coordinator that lies, two coordinators over one SuperLink, or a database that was set back",
        signs=(
            r"(?:has answered|the request is) .*for another statement",
            r"a run has one history",
            r"has given its shares for attempt",
            r"too long ago to say it again",
            r"does not partition the roster",
            r"not those that this site has confirmed",
            r"are to be masked for",
        ),
        next=("covenant log witnesses", "covenant halt --run {run}, if nobody can explain it"),
        page="a-fork-was-found.md",
    ),
    Cause(
        name="keys-gone",
        means="A site has no keys for an attempt that it is asked about: it was started again in the middle, or refused a step because it was asked in two ways.",
        faults="an agent that was restarted; a coordinator that lies. The site's own log and history say which",
        signs=(r"has no keys for this attempt", r"names other documents than this site accepted"),
        next=("at {site}: covenant-agent history --run {run}", "at {site}: covenant-agent status"),
        page="a-run-was-interrupted.md",
    ),
    Cause(
        name="not-now",
        means="A site does not take part at present. It does not say whether that is its hours, or a person there who has not allowed the plan yet.",
        faults="a plan that is new to the site, or `run.window` in its site.yaml",
        signs=(r"refused \(later\)",),
        next=(
            "at {site}: covenant-agent plan pending",
            "covenant run resume {run}, once the site takes part",
        ),
        page="../site-it/policy.md",
    ),
    Cause(
        name="away",
        means="A site is away by its own word: its people have suspended it, or it was started and too few others have vouched for its journal since.",
        faults="`covenant-agent suspend`, a restart in the middle of a run, too few sites that are online",
        signs=(r"refused \(away\)",),
        next=("at {site}: covenant-agent standing", "covenant site list"),
        page="../site-it/standing.md",
    ),
    Cause(
        name="draining",
        means="A site was told to leave and takes part in nothing new before it is started again.",
        faults="an upgrade, a restart, `covenant-agent drain`",
        signs=(r"this site drains",),
        next=("at {site}: covenant-agent status",),
        page="agent-does-not-connect.md",
    ),
    Cause(
        name="strange-answers",
        means="A site sent what answers another question, is signed by nobody, or is no answer; it was not counted.",
        faults="messages that were replayed, doubled or overtaken on their way; a site that lies or is broken",
        signs=(
            r"answered another statement",
            r"answered in the name of",
            r"^sent ",
            r": \w[\w-]* sent ",
            r"; \w[\w-]* sent ",
            r"has not signed",
            r"is not signed by its identity",
            r"array of shape",
            r"do not fit",
            r"bytes in this ring",
            r"masked its input for another statement",
            r"has signed other survivors",
            r"other shares than those",
            r"could not open",
            r"not finite",
        ),
        next=("covenant run watch {run}", "at {site}: covenant-agent status"),
        page="a-run-was-interrupted.md",
    ),
    Cause(
        name="site-failed",
        means="A site could not compute its part; its own log says why.",
        faults="memory, a database that went away, a defect",
        signs=(r"refused \(failed\) could not", r"the app failed"),
        next=("at {site}: covenant-agent history --run {run}, and the agent's log",),
        page="agent-does-not-connect.md",
    ),
    Cause(
        name="site-silent",
        means="A site did not answer in time: its agent is down, stopped by its disk, or slow, or the network between is cut.",
        faults="an agent that was killed, whose journal is damaged or whose disk is full; lost or late messages; a cut network",
        signs=(
            r"did not answer before the deadline",
            r"is not online",
            r"are online after",
            r"ended while sending",
        ),
        next=("covenant site list", "at {site}: covenant-agent status"),
        page="agent-does-not-connect.md",
    ),
    Cause(
        name="driver-died",
        means="The process that drives the run, the coordinator or its SuperLink ended in the middle; the run went on after its last committed round.",
        faults="a process that was killed, out of memory, or restarted with the machine",
        signs=(
            r"server process(?:es)? (?:ended|have driven)",
            r"drivers were started",
            r"its SuperLink ended",
            r"without a commit in between",
            r"a later attempt was opened before this one was committed",
        ),
        next=("less logs/serverapp.log", "covenant run resume {run}, if it has failed"),
        page="a-run-was-interrupted.md",
    ),
)
