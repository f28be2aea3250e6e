"""What `run` says about the machine holds: asked of the libraries and of the kernel, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from client.limits import OutOfMemory, told_of_memory
from protos.documents import read_document
from protos.site import SiteConfig
from tests.protos.documents_for_tests import SITE, changed

HEAD = """
import json, os, resource
import numpy, pyarrow, torch
from threadpoolctl import threadpool_info
from client.limits import OutOfMemory, apply_limits, told_of_memory
from protos.documents import read_document
from protos.site import SiteConfig
config = read_document({text!r}, SiteConfig, "site.yaml")
apply_limits(config.run)
"""
ASK = """
numpy.ones((4, 4)) @ numpy.ones((4, 4))
print(json.dumps({
    "torch": torch.get_num_threads(), "arrow": pyarrow.cpu_count(), "arrow_io": pyarrow.io_thread_count(),
    "pools": sorted({each["num_threads"] for each in threadpool_info()}), "later": os.environ["OMP_NUM_THREADS"],
    "nice": os.getpriority(os.PRIO_PROCESS, 0), "data": resource.getrlimit(resource.RLIMIT_DATA)[0],
}))
"""
EXCEED = """
said = []
for allocate in (lambda: numpy.ones(1 << 31), lambda: torch.ones(1 << 31), lambda: pyarrow.allocate_buffer(1 << 33)):
    try:
        with told_of_memory(config):
            allocate()
    except OutOfMemory as error:
        said.append(str(error))
print(json.dumps({"said": said, "goes_on": float(torch.ones(10).sum())}))
"""


def run(limits: str, code: str) -> dict[str, Any]:
    text = changed(SITE, "run: {cpu_threads: 1,", f"run: {{{limits},")
    done = subprocess.run(
        [sys.executable, "-c", HEAD.format(text=text) + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("threads", [1, 3])
def test_every_library_computes_with_as_many_threads_as_were_given(threads: int) -> None:
    found = run(f"cpu_threads: {threads}, priority: 7, memory: 3 GiB", ASK)
    assert (found["torch"], found["arrow"], found["arrow_io"]) == (threads,) * 3
    assert found["pools"] == [threads]
    assert found["later"] == str(threads)
    assert found["nice"] >= 7
    assert found["data"] == 3 << 30


def test_an_allocation_beyond_the_limit_is_one_sentence_and_the_process_goes_on() -> None:
    found = run("cpu_threads: 1, memory: 3 GiB", EXCEED)
    assert found["goes_on"] == 10.0
    assert len(found["said"]) == 3
    assert all(
        each.startswith("an allocation failed: `run.memory` allows 3 GiB. Raise it") for each in found["said"]
    )


def test_less_than_the_libraries_take_is_refused_before_anything_fails() -> None:
    text = changed(SITE, "run: {cpu_threads: 1,", "run: {memory: 256 MiB,")
    hungry = HEAD.replace("apply_limits(config.run)", "kept = numpy.ones(1 << 25); apply_limits(config.run)")
    done = subprocess.run(
        [sys.executable, "-c", hungry.format(text=text)], capture_output=True, text=True, check=False
    )
    assert "`run.memory` is 256 MiB, and the agent's libraries alone take" in done.stderr


def test_other_errors_are_what_they_were() -> None:
    config = read_document(SITE, SiteConfig, "site.yaml")
    with pytest.raises(RuntimeError, match="shapes differ"), told_of_memory(config):
        raise RuntimeError("shapes differ")
    with pytest.raises(OutOfMemory, match="the machine has no more"), told_of_memory(config):
        raise MemoryError
