"""What is run in a file system of its own: `before` answers, fills the disk and is asked again; `after` looks at what is left; `examined` asks the doctor."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from client.bootstrap import open_participant
from client.cli import main
from client.journal.entries import JournalBroken
from client.operation.state import AgentState, StateFolder
from protos.codec import decode_reply, encode_request
from protos.frames import Moments, Refusal
from protos.logs import configure
from tests.bank_for_tests import SITES, make_bank
from tests.client.loans_for_tests import plan
from tests.witness_for_tests import vouched

NAMES = ("first-request", "second-request", "first-answer")


def before(folder: Path) -> None:
    """Prints what an agent says whose disk is full, and ends as it does."""
    bank = make_bank(folder)
    frames = [
        encode_request(bank.request(plan(), run=run))
        for run in ("run-0000000000000001", "run-0000000000000002")
    ]  # type: ignore[arg-type]
    site = vouched(open_participant(bank.config_file("south")), SITES)
    first = site.answer(frames[0])
    for name, data in zip(NAMES, (*frames, first), strict=True):
        (folder / name).write_bytes(data)
    fill(folder)
    state = StateFolder(folder / "south")
    assert not state.write(AgentState(pid=1, version="1", started_at="2026-01-01T00:00:00+00:00"))
    try:
        site.answer(frames[1])
    except JournalBroken as broken:
        sys.stdout.write(str(broken))
        sys.stdout.flush()
        os._exit(broken.exit_code)
    os._exit(99)


def fill(folder: Path) -> None:
    """Leave not a byte of the disk."""
    with (folder / "filler").open("wb", buffering=0) as filler:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    filler.write(b"\0" * size)
            except OSError:
                continue


def examined(folder: Path) -> None:
    """Prints what the doctor says of a site on a full disk, and ends as its command does."""
    config = make_bank(folder).config_file("south")
    fill(folder)
    sys.argv = ["covenant-agent", "doctor", "--json", "--config", str(config)]
    main()


def after(folder: Path) -> None:
    """What was answered is said again to the bit, and what was not recorded is answered now."""
    (folder / "filler").unlink()
    *frames, first = ((folder / name).read_bytes() for name in NAMES)
    site = vouched(open_participant(folder / "south" / "site.yaml"), SITES)
    assert not isinstance(decode_reply(first).body, Refusal)
    assert site.answer(frames[0]) == first
    assert isinstance(decode_reply(site.answer(frames[1])).body, Moments)
    site.close()


if __name__ == "__main__":
    configure()  # logs go to stderr
    {"before": before, "after": after, "examined": examined}[sys.argv[1]](Path(sys.argv[2]))
