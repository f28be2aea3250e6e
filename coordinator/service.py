"""The running coordinator: a SuperLink child that knows the member sites, and a server process for each run.

It survives the SuperLink: a child that ends is started again, the sites, whom an in-memory SuperLink has then forgotten, are
registered anew, and the runs that were going go on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from coordinator.bootstrap import Centre
from coordinator.db.engine import writing
from coordinator.db.schema import Site
from coordinator.documents import read_members
from coordinator.flower.control import Control
from coordinator.flower.executor import Executor
from coordinator.flower.superlink import SuperLink
from coordinator.governance.launches import members_signed
from coordinator.governance.log import append, require_open
from coordinator.supervisor import Supervisor
from protos.membership import MemberList, Membership
from strategies.errors import CovenantError, DiskError

_WATCH_S = 2.0
_log = structlog.get_logger(__name__)


@dataclass
class Service:
    """Serves until stopped. `on_ready` is called once sites can connect and runs can be launched."""

    centre: Centre
    on_ready: Callable[[], None] = lambda: None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _recorded: str | None = None

    def stop(self) -> None:
        """Return from `serve` soon."""
        self._stopping.set()

    def serve(self) -> None:
        """Start everything, keep it going, and end it all when stopped; raises `DiskError` when it can no longer keep a record, and `Refused`
        at once where a restored database waits for entries that are known to be somewhere."""
        settings = self.centre.settings
        require_open(self.centre.engine)
        settings.logs.mkdir(parents=True, exist_ok=True)
        with (settings.logs / "superlink.log").open("ab") as log:
            superlink = SuperLink(address=settings.superlink, home=settings.home, log=log)
            try:
                while not self._stopping.is_set():
                    self._serve_until_it_ends(superlink)
            finally:
                superlink.stop()

    def _serve_until_it_ends(self, superlink: SuperLink) -> None:
        if self.centre.settings.config.superlink.managed:
            superlink.start()
        supervisor = Supervisor(self.centre)
        executor = Executor(
            address=self.centre.settings.superlink,
            home=self.centre.settings.home,
            on_exit=supervisor.process_ended,
        )
        executor.start()
        try:
            self._register_members()
            _log.info(
                "serving",
                superlink=f"{self.centre.settings.superlink.host}:{self.centre.settings.superlink.port}",
            )
            supervisor.resume_leftovers()
            self.on_ready()
            while not self._stopping.wait(_WATCH_S):
                if (code := superlink.exited()) is not None:
                    _log.error("the SuperLink ended; starting it again", exit_code=code)
                    return
                if executor.failed is not None:
                    raise executor.failed
                try:
                    self._register_members()
                except DiskError:
                    raise
                except CovenantError as error:
                    _log.warning("members not registered", reason=str(error))
        finally:
            executor.stop()

    def _register_members(self) -> None:
        """Register every member site that the SuperLink does not know: new members, or all after it forgot them."""
        if not self.centre.settings.members_file.exists():
            return
        membership, trusted = read_members(self.centre.settings)
        members = trusted.members
        with Control(self.centre.settings.superlink) as control:
            added = control.register({m.site: m.node_key.encode() for m in members.members})
        if added or self._recorded != members.ref:
            self._record(members, membership)
            self._recorded = members.ref
        if added:
            _log.info("members registered", members=members.ref, sites=added)

    def _record(self, members: MemberList, membership: Membership) -> None:
        with writing(self.centre.engine, "recording the member sites") as session:
            for member in members.members:
                session.merge(
                    Site(
                        name=member.site,
                        identity_key=member.identity_key,
                        node_key=member.node_key,
                        members_ref=members.ref,
                        enrolled_at=self.centre.clock(),
                    )
                )
            session.flush()
            append(session, self.centre.clock(), members_signed(session, membership.canonical))
