"""The running coordinator: a SuperLink child that knows the member sites, and a server process for each run.

It survives the SuperLink: a child that ends is started again, the sites, whom an in-memory SuperLink has then forgotten, are
registered anew, and the runs that were going go on.

Of several coordinators over one database one leads, and runs all of this. The others wait until its lease ends, or is given back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from coordinator.api.server import ControlServer
from coordinator.bootstrap import Centre, lease_of
from coordinator.db.engine import writing
from coordinator.db.schema import Site
from coordinator.deploy.driving import Driving
from coordinator.deploy.monitoring.collecting import Collecting
from coordinator.deploy.monitoring.retraining.drafting import draft_due
from coordinator.documents import read_members, read_root
from coordinator.enrolment.door import EnrolmentDoor
from coordinator.flower.control import Control
from coordinator.flower.executor import Executor
from coordinator.flower.superlink import SuperLink
from coordinator.governance.log import append, require_open
from coordinator.governance.members import Listed, members_signed
from coordinator.governance.policies.rejudge import take_effect
from coordinator.leadership import Deposed, Keeper, Lease, Term, seat_in
from coordinator.office.retraining import expire_adopted, launch_adopted
from coordinator.supervisor import Supervisor
from protos.membership import MemberList, Membership
from protos.monitoring import new_registry, served
from strategies.errors import CovenantError, DiskError

if TYPE_CHECKING:
    from coordinator.console.server import ConsoleServer

_WATCH_S = 2.0
_NOTICE_S = 0.2
_LOOK_FOR_LEADER_S = 0.5
_log = structlog.get_logger(__name__)


@dataclass
class Service:
    """Serves until stopped. `on_ready` is called once sites can connect and runs can be launched."""

    centre: Centre
    on_ready: Callable[[], None] = lambda: None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _executor: Executor | None = None
    _recorded: str | None = None
    _api: ControlServer | None = None
    _door: EnrolmentDoor | None = None
    _driving: Driving | None = None
    _collecting: Collecting | None = None
    _console: ConsoleServer | None = None
    _leads: bool = False

    def stop(self) -> None:
        """Return from `serve` soon."""
        self._stopping.set()

    def serve(self) -> None:
        """Start everything, keep it going, and end it all when stopped; raises `DiskError` when it can no longer keep a record, and `Refused`
        at once where a restored database waits for entries that are known to be somewhere."""
        settings = self.centre.settings
        require_open(self.centre.engine)
        settings.logs.mkdir(parents=True, exist_ok=True)
        if removed := self.centre.artifacts.remove_left_over(self.centre.clock()):
            _log.info("removed artifacts that were never written to their end", files=removed)
        with self._measured(), (settings.logs / "superlink.log").open("ab") as log:
            superlink = SuperLink(address=settings.superlink, home=settings.home, log=log)
            with seat_in(settings.home) as seat:
                lease = lease_of(self.centre, seat)
                while (led := self._wait_to_lead(lease)) is not None:
                    self._lead(lease, *led, superlink)

    @contextmanager
    def _measured(self) -> Iterator[None]:
        """Metrics, where covenant.yaml has an address for them: also of a coordinator that waits."""
        section = self.centre.settings.config.monitoring
        if section.metrics is None:
            yield
            return
        from coordinator.metrics import CentreMetrics

        registry = new_registry()
        registry.register(CentreMetrics(self.centre, lambda: self._leads))
        with served(section, registry):
            yield

    def _wait_to_lead(self, lease: Lease) -> tuple[Term, float] | None:
        """The term in which this coordinator leads, and when it asked for that; None once it is to stop."""
        told = ""
        while not self._stopping.is_set():
            asked = lease.monotonic()
            try:
                if (term := lease.take()) is not None:
                    _log.info("leading", term=term.number, holder=lease.holder)
                    return term, asked
                leader = lease.leader()
            except DiskError:
                raise
            except CovenantError as error:
                _log.warning("cannot ask who leads; trying again", reason=str(error))
                leader = None
            if leader is not None and leader.holder != told:
                told = leader.holder
                _log.info(
                    f"another coordinator leads: {leader.holder} until {leader.until:%H:%M:%S} UTC at least; waiting"
                )
            self._stopping.wait(_LOOK_FOR_LEADER_S)
        return None

    def _lead(self, lease: Lease, term: Term, asked_at: float, superlink: SuperLink) -> None:
        """Run everything while this coordinator leads."""
        self._executor, self._leads = None, True
        with lease.kept(term, asked_at, partial(self._cut, superlink)) as leading:
            try:
                with (
                    self._control(term) as self._api,
                    self._enrolment(term) as self._door,
                    self._pages(term) as self._console,
                    Driving(replace(self.centre, term=term)) as self._driving,
                    Collecting(
                        replace(self.centre, term=term), then=(expire_adopted, draft_due, launch_adopted)
                    ) as self._collecting,
                ):
                    while not (self._stopping.is_set() or leading.lost):
                        self._serve_until_it_ends(superlink, leading)
            except CovenantError as error:
                if isinstance(error, DiskError) or not leading.lost:
                    raise
            finally:
                self._leads = False
                superlink.stop()

    def _control(self, term: Term) -> AbstractContextManager[ControlServer | None]:
        """The control API, where covenant.yaml has one: it outlives the SuperLink, and says what became of that."""
        if self.centre.settings.config.control is None:
            return nullcontext()
        return ControlServer(replace(self.centre, term=term))

    def _enrolment(self, term: Term) -> AbstractContextManager[EnrolmentDoor | None]:
        """The enrolment door, where covenant.yaml has one."""
        if self.centre.settings.config.enrolment is None:
            return nullcontext()
        return EnrolmentDoor(replace(self.centre, term=term))

    def _pages(self, term: Term) -> AbstractContextManager[ConsoleServer | None]:
        """The console, where covenant.yaml has one."""
        if self.centre.settings.config.console is None:
            return nullcontext()
        from coordinator.console.server import ConsoleServer

        return ConsoleServer(replace(self.centre, term=term))

    def _cut(self, superlink: SuperLink) -> None:
        """End at once what only a leader runs."""
        if (api := self._api) is not None:
            api.cut()
        if (door := self._door) is not None:
            door.cut()
        if (console := self._console) is not None:
            console.cut()
        if (executor := self._executor) is not None:
            executor.cut()
        superlink.cut()

    def _serve_until_it_ends(self, superlink: SuperLink, leading: Keeper) -> None:
        if self.centre.settings.config.superlink.managed:
            superlink.start()
        supervisor = Supervisor(self.centre, leading.term)
        self._executor = executor = Executor(
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
            self._take_policies(leading.term)
            self.on_ready()
            while self._goes_on(leading):
                if (code := superlink.exited()) is not None:
                    _log.error("the SuperLink ended; starting it again", exit_code=code)
                    return
                if executor.failed is not None:
                    raise executor.failed
                for served in (self._api, self._door, self._driving, self._collecting, self._console):
                    if served is not None and served.failed is not None:
                        raise served.failed
                try:
                    self._register_members()
                except DiskError:
                    raise
                except CovenantError as error:
                    _log.warning("members not registered", reason=str(error))
                self._take_policies(leading.term)
        finally:
            executor.stop()

    def _goes_on(self, leading: Keeper) -> bool:
        """Whether this coordinator still leads after a while; no later than that it is to stop."""
        ends = self.centre.monotonic() + _WATCH_S
        while self.centre.monotonic() < ends:
            if self._stopping.wait(_NOTICE_S) or leading.lost:
                return False
        return True

    def _take_policies(self, term: Term) -> None:
        """Judge by policy packs whose time has come, also while this coordinator was away. What cannot be done now is tried again."""
        try:
            take_effect(replace(self.centre, term=term))
        except (DiskError, Deposed):
            raise
        except CovenantError as error:
            _log.warning("policy packs did not take effect", reason=str(error))

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
        listed = Listed.of(membership, read_root(self.centre.settings))
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
            append(session, self.centre.clock(), members_signed(session, listed))
