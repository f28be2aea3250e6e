"""Put first on PYTHONPATH by the egress test: notes every name looked up and every address connected to, in all processes."""

import os
import sys

_LOG = os.environ["COVENANT_EGRESS_LOG"]


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        target = arguments[1]
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        target = arguments[0]
    else:
        return
    with open(_LOG, "a") as log:  # noqa: PTH123 (pathlib is not imported that early)
        log.write(f"{event}\t{target!r}\t{sys.argv[0]}\n")


sys.addaudithook(_note)
