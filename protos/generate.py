"""Generates the protobuf modules beside their .proto files; with --check, fails where they are stale instead."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

FOLDER = Path(__file__).parent
SUFFIXES = ("_pb2.py", "_pb2.pyi")


def generate(target: Path) -> None:
    """Write the generated modules of every .proto file below `target`/protos."""
    for proto in sorted(FOLDER.glob("*.proto")):
        arguments = [f"-I{FOLDER.parent}", f"--python_out={target}", f"--pyi_out={target}", str(proto)]
        if protoc.main(["protoc", *arguments]):
            sys.exit(f"{proto} does not compile")


def stale() -> list[str]:
    """Names of generated files that differ from what their .proto says now."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {
            path.name: path.read_bytes()
            for suffix in SUFFIXES
            for path in Path(folder, "protos").glob(f"*{suffix}")
        }
    committed = {path.name: path.read_bytes() for suffix in SUFFIXES for path in FOLDER.glob(f"*{suffix}")}
    return sorted(name for name in fresh | committed if fresh.get(name) != committed.get(name))


if __name__ == "__main__":
    if "--check" in sys.argv:
        if differing := stale():
            sys.exit(f"stale: {', '.join(differing)}; run `make protos`")
    else:
        generate(FOLDER.parent)
