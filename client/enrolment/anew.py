"""A site goes on under a new key, after its journal was lost, set back, or used twice.

1. First the accounts: what any verified log shows as settled here, and they lack, is charged, whether it fits or not. They are never reset.
2. Then the old key and journal are retired beside the new ones: nothing is deleted, and nothing of them is used again. What was promised under the old key is broken.
3. The new journal begins with the largest place that any record knows of the old one, so that people can see what was lost.

A command that was cut off is given again, and goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from client.accounts.settled import restore, settled_at
from client.bootstrap import open_accounts, open_journal, open_log_copy
from client.enrolment.new_site import REQUEST_FILE
from client.journal.entries import JournalInUse
from client.journal.snapshot import snapshot
from client.keystore import enrolment_request, load_identity, load_root, make_keys
from protos.enrolment import EnrolmentRequest
from protos.files import replace_file
from protos.keys import fingerprint
from protos.log_audit import Audit, audit
from protos.log_export import verify_file
from protos.site import SiteConfig
from protos.witness import Position
from strategies.errors import CovenantError, UsageError

_ANEW: Final = "enrolled anew"
_PUBLIC_MODE: Final = 0o644
_SQLITE: Final = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Anew:
    """What came of it."""

    request: EnrolmentRequest
    restored: int
    """Charges that the accounts lacked."""
    last: Position | None
    """The largest place of the old journal that is on record."""
    retired: tuple[Path, ...]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "site": self.request.site,
            "fingerprint": self.request.fingerprint,
            "charges_restored": self.restored,
            "last_seen": None if self.last is None else self.last.model_dump(mode="json"),
            "retired": [str(each) for each in self.retired],
        }


def enrol_anew(config: SiteConfig, exports: Iterable[Path], reason: str, *, now: datetime) -> Anew:
    """Make new keys for the site of `config`, after its accounts have what `exports` of the log, and its own copy, show.

    Raises Refused for an export that does not verify, and UsageError while the agent runs; nothing is changed then.
    """
    stories = [verify_file(each, load_root(config)).story for each in exports]
    old = load_identity(config).public if config.identity.key.exists() else None
    _require_stopped(config)
    own = _own_copy(config)
    stories += [] if own is None else [own]
    if not stories:
        raise UsageError(
            "nothing but this site's own records says what it has released; get an export of the log from the centre or another site"
            " (`covenant log export`, `covenant-agent log export`), and name it with --log"
        )
    with closing(open_accounts(config)) as book:
        restored = sum(restore(book, config, settled_at(story, config)) for story in stories)
    last = _last_place(stories, config, old)
    retired = tuple(_retired(config, f"retired-{now:%Y%m%dT%H%M%S}")) if old is not None else ()
    request = make_keys(config) if not config.identity.key.exists() else enrolment_request(config)
    with closing(open_journal(config)) as journal:
        journal.append(
            _ANEW,
            {
                "reason": reason,
                "former": None if old is None else fingerprint(old),
                "last": None if last is None else last.model_dump(mode="json"),
                "restored": restored,
                "at": now.isoformat(),
            },
        )
    replace_file(config.identity.key.parent / REQUEST_FILE, request.canonical + b"\n", mode=_PUBLIC_MODE)
    return Anew(request=request, restored=restored, last=last, retired=retired)


def _require_stopped(config: SiteConfig) -> None:
    """An agent that runs would go on with what is retired here. Raises `JournalInUse`."""
    if config.journal.exists() and config.identity.key.exists():
        try:
            open_journal(config).close()
        except JournalInUse:
            raise
        except CovenantError:
            pass  # damaged, or another's, which is why it is retired


def _own_copy(config: SiteConfig) -> Audit | None:
    """What this site's own copy of the log tells; None where it has none that is whole."""
    if not config.log_copy.exists() or not config.identity.key.exists():
        return None
    try:
        with snapshot(config.log_copy) as file, closing(open_log_copy(config, file)) as copy:
            return audit(copy.entries(copy.size), load_root(config)) if copy.size else None
    except CovenantError:
        return None


def _last_place(stories: Iterable[Audit], config: SiteConfig, identity: str | None) -> Position | None:
    """The largest place of the journal under `identity` that a log has signed by the site."""
    found = [
        each.said.position
        for story in stories
        for each in story.witnesses.newest.values()
        if each.said.site == config.site and each.said.identity == identity
    ]
    return max(found, key=lambda each: each.sequence, default=None)


def _retired(config: SiteConfig, suffix: str) -> Iterable[Path]:
    """Move the old files out of the way, the identity key last: as long as that is there the command begins again."""
    files = [Path(f"{config.journal}{part}") for part in _SQLITE]
    for file in (*files, config.identity.node_key, config.identity.key):
        if file.exists():
            moved = file.with_name(f"{file.name}.{suffix}")
            os.replace(file, moved)  # noqa: PTH105 (says that it is one step)
            yield moved
