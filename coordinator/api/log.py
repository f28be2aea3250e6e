"""`Log` of the governance API: entries, proofs, the whole log, and what is committed now."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from typing import Final

from coordinator.api.door import Call, Function
from coordinator.api.pages import FULL_BYTES, limit_of, start_of
from coordinator.bootstrap import Centre
from coordinator.governance.exports import export_pieces
from coordinator.governance.log import RawEntry, TransparencyLog, open_log
from protos import governance_pb2 as governance
from strategies.errors import UsageError
from strategies.transparency.notes import SignedNote

_MOST_KINDS: Final = 100


class Log:
    """Answers for the transparency log."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre
        self._lock = threading.Lock()
        self._log: TransparencyLog | None = None
        self._mark: tuple[int, int, int] | None = None

    def functions(self) -> Mapping[str, Function]:
        """By method."""
        return {
            "covenant.governance.v1.Log/GetCheckpoint": self.checkpoint,
            "covenant.governance.v1.Log/ListEntries": self.list,
            "covenant.governance.v1.Log/GetInclusion": self.inclusion,
            "covenant.governance.v1.Log/GetConsistency": self.consistency,
            "covenant.governance.v1.Log/Export": self.export,
            "covenant.governance.v1.Log/WatchEvents": self.watch,
        }

    def checkpoint(self, request: governance.GetCheckpointRequest, call: Call) -> governance.SignedHead:
        """The signed head."""
        del request, call
        log, note = self._head()
        return governance.SignedHead(note=note.encoded, key=log.key.words)

    def list(self, request: governance.ListEntriesRequest, call: Call) -> governance.ListEntriesResponse:
        """Entries in their order."""
        del call
        log = self._opened()
        size, limit = log.size(), limit_of(request.page_size)
        start = max(0, size - request.last) if request.last else request.start
        if request.page_token:
            start = start_of(request.page_token)
        found: list[governance.Entry] = []
        token, given = "", 0
        for each in log.entries(start, size, request.kind or None):
            if len(found) == limit or given > FULL_BYTES:
                token = str(each.seq)
                break
            found.append(_entry(each))
            given += len(each.body)
        return governance.ListEntriesResponse(size=size, entries=found, next_page_token=token)

    def inclusion(self, request: governance.GetInclusionRequest, call: Call) -> governance.Proof:
        """The proof that an entry is in the log."""
        del call
        if not request.seq < request.size:
            raise UsageError(f"a log of {request.size} entries has no entry {request.seq}")
        return governance.Proof(hashes=self._opened().inclusion(request.seq, request.size))

    def consistency(self, request: governance.GetConsistencyRequest, call: Call) -> governance.Proof:
        """The proof that the log grew."""
        del call
        if request.old > request.new:
            raise UsageError(f"a log does not shrink from {request.old} to {request.new} entries")
        return governance.Proof(hashes=self._opened().consistency(request.old, request.new))

    def export(self, request: governance.ExportRequest, call: Call) -> Iterator[governance.ExportPiece]:
        """The whole log, in pieces of whole lines."""
        del request
        log, note = self._head()
        for piece in export_pieces(self._centre, log.key, note):
            if not call.context.is_active():
                return
            yield governance.ExportPiece(data=piece)

    def watch(self, request: governance.WatchEventsRequest, call: Call) -> Iterator[governance.Entry]:
        """Entries as they are committed."""
        if len(request.kinds) > _MOST_KINDS:
            raise UsageError(f"{len(request.kinds)} kinds; name at most {_MOST_KINDS}")
        log, kinds = self._opened(), set(request.kinds)
        position = request.start if request.HasField("start") else log.size()
        while True:
            for each in log.entries(position):
                position = each.seq + 1
                if not kinds or _kind(each) in kinds:
                    yield _entry(each)
                elif not call.context.is_active():
                    return
            if not call.goes_on():
                return

    def _opened(self) -> TransparencyLog:
        """The log with its signer, which is opened again when the key's file has changed: to open it takes some tenths of a second."""
        with self._lock:
            file = self._centre.settings.log_key_file
            state = file.stat() if file.exists() else None
            mark = None if state is None else (state.st_mtime_ns, state.st_ino, state.st_size)
            if self._log is None or mark != self._mark:
                self._log = open_log(self._centre.engine, self._centre.settings, self._centre.clock)
                self._mark = mark
            return self._log

    def _head(self) -> tuple[TransparencyLog, SignedNote]:
        """The log and its signed head; one at a time, because a head is signed once."""
        log = self._opened()
        with self._lock:
            return log, log.checkpoint()


def _kind(entry: RawEntry) -> str:
    return str(json.loads(entry.body)["what"]["kind"])


def _entry(entry: RawEntry) -> governance.Entry:
    return governance.Entry(seq=entry.seq, body=entry.body)
