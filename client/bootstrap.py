"""The composition root of a site: opens what its configuration names, and chooses its clock and its randomness. `process` adds the transport."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from client.accounts.book import AccountBook
from client.admission.presence import Presence
from client.admission.trust import Trust
from client.consents import ConsentBook
from client.data.rows import SiteRows
from client.halts import HaltBook
from client.journal.answers import Answers
from client.journal.entries import Owner
from client.journal.file import Connect, Journal, connect
from client.keystore import load_identity, load_root
from client.participant import Participant
from client.shared_models import KeepModel, SharedModels, keep_nothing
from client.standing import StandingBook
from client.training.pace import Progress, no_progress
from client.transparency.log_copy import LogCopy
from client.transparency.memory import WitnessMemory
from client.transparency.vouching import Vouching
from client.transparency.witness import Witness
from protos.keys import Signer
from protos.root import SignedRoot
from protos.site import SiteConfig, load_site
from strategies.secagg.shamir import Entropy

_STANDING: Final = "standing.db"
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of every site outside of `simulation/`."""
    return datetime.now(UTC)


def open_participant(
    site_file: Path,
    *,
    connect: Connect = connect,
    entropy: Entropy = os.urandom,
    clock: Clock = utc_now,
    monotonic: Callable[[], float] = time.monotonic,
    progress: Progress = no_progress,
) -> Participant:
    """The participant that `site.yaml` describes; raises `CovenantError` naming the file that cannot be used."""
    config = load_site(site_file)
    pinned, identity = load_root(config), load_identity(config)
    owner = _owner(config, pinned, identity)
    with ExitStack() as opened:
        journal = opened.enter_context(closing(Journal.open(config.journal, owner, connect=connect)))
        book = AccountBook.open(config.accounts, config.site, clock=clock, connect=connect)
        opened.enter_context(closing(book))
        answers = Answers(journal, book.journal, clock)
        memory = WitnessMemory(config.site, identity, journal, clock, entropy)
        participant = Participant(
            config=config,
            trust=Trust(pinned, journal, clock),
            identity=identity,
            answers=answers,
            book=book,
            halts=opened.enter_context(closing(open_halts(config, clock=clock, connect=connect))),
            standing=opened.enter_context(closing(open_standing(config, clock=clock, connect=connect))),
            entropy=entropy,
            presence=Presence(
                config.run.window,
                consents_of(config, identity, clock=clock, connect=connect),
                clock,
                monotonic,
            ),
            monotonic=monotonic,
            progress=progress,
            witness=_witness(
                config, pinned, memory, answers, LogCopy.open(config.log_copy, owner, connect=connect)
            ),
            keep_model=open_shared_models(config),
            rows=SiteRows(config.journal.parent, clock),
        )
        opened.pop_all()  # from here on `Participant.close` closes them
    return participant


def _witness(
    config: SiteConfig, pinned: SignedRoot, memory: WitnessMemory, answers: Answers, copy: LogCopy
) -> Witness:
    asks = config.policy.witnesses_at_least
    return Witness(memory, pinned, Vouching(memory, answers, config.federation.name, asks), asks, copy)


def open_shared_models(config: SiteConfig) -> KeepModel:
    """What keeps the shared models of finished runs, if this site has personal models."""
    return (
        keep_nothing if config.personal is None else SharedModels(config.personal.folder / "shared").keep_last
    )


def open_accounts(config: SiteConfig) -> AccountBook:
    """The accounts of a site, also while its agent runs."""
    return AccountBook.open(config.accounts, config.site, clock=utc_now)


def open_halts(
    config: SiteConfig,
    *,
    clock: Clock = utc_now,
    connect: Connect = connect,
) -> HaltBook:
    """What people at a site have halted, also while its agent runs."""
    federation = load_root(config).root.identity
    return HaltBook.open(config.halts, config.site, federation, clock=clock, connect=connect)


def open_standing(
    config: SiteConfig,
    *,
    clock: Clock = utc_now,
    connect: Connect = connect,
) -> StandingBook:
    """How a site stands to its federation, also while its agent runs."""
    federation = load_root(config).root.identity
    return StandingBook.open(standing_file(config), config.site, federation, clock=clock, connect=connect)


def standing_file(config: SiteConfig) -> Path:
    """Where a site's standing is kept: beside its halts."""
    return config.halts.with_name(_STANDING)


def open_journal(config: SiteConfig) -> Journal:
    """A site's journal. Raises `UsageError` while its agent runs, and `JournalBroken` for a damaged one."""
    return Journal.open(config.journal, _owner(config, load_root(config), load_identity(config)))


def open_trust(config: SiteConfig) -> Trust:
    """What a site believes of its federation, in its journal. Raises `UsageError` while its agent runs."""
    return Trust(load_root(config), open_journal(config), utc_now)


def consents_of(
    config: SiteConfig, identity: Signer, *, clock: Clock = utc_now, connect: Connect = connect
) -> ConsentBook:
    """What people at a site have said of plans, also while its agent runs. Nothing is opened before it is asked for."""
    federation = load_root(config).root.identity
    return ConsentBook(config.consents, config.site, federation, identity.public, clock, connect)


def open_witness_memory(config: SiteConfig, journal: Path) -> WitnessMemory:
    """What a site remembers as a witness in `journal`, its own or a snapshot of it. Raises `UsageError` while its agent runs."""
    identity = load_identity(config)
    opened = Journal.open(journal, _owner(config, load_root(config), identity))
    return WitnessMemory(config.site, identity, opened, utc_now, os.urandom)


def open_log_copy(config: SiteConfig, file: Path) -> LogCopy:
    """A site's copy of the transparency log in `file`, its own or a snapshot of it."""
    return LogCopy.open(file, _owner(config, load_root(config), load_identity(config)))


def _owner(config: SiteConfig, pinned: SignedRoot, identity: Signer) -> Owner:
    return Owner(
        federation=config.federation.name,
        root=pinned.root.digest,
        site=config.site,
        identity=identity.public,
    )
