"""Nothing leaves the machine unasked."""

import json
import os
import subprocess
import sys
from urllib.request import getproxies_environment, proxy_bypass_environment

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.egress import child_environment, quiet_environment

PROXY = "http://proxy.bank.example:3128"
NAMES = ["http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "no_proxy", "no_grpc_proxy"]
OFF = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]


def any_case(name: str) -> st.SearchStrategy[str]:
    return st.tuples(*[st.sampled_from([letter.lower(), letter.upper()]) for letter in name]).map("".join)


@given(st.sets(st.sampled_from(NAMES).flatmap(any_case), min_size=1))
def test_a_proxy_from_the_environment_vanishes_whatever_its_case(names: set[str]):
    quiet = quiet_environment(dict.fromkeys(names, PROXY) | {"PATH": "/bin"})
    assert PROXY not in quiet.values()
    assert quiet["PATH"] == "/bin"
    left = {name for name in quiet if name.lower() in NAMES}
    assert left == {"no_proxy", "no_grpc_proxy"}


def test_a_no_proxy_from_the_environment_does_not_widen_ours():
    assert "*" not in quiet_environment({"NO_PROXY": "*", "no_proxy": "*"}, proxy=PROXY)["no_proxy"]


@pytest.mark.parametrize("switch", OFF)
def test_calls_home_are_off_whatever_was_set(switch):
    assert quiet_environment({})[switch] == OFF[switch]
    assert quiet_environment({switch: "yes please"})[switch] == OFF[switch]


def environment_of_the_process(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def proxied(url: str) -> bool:
    """Whether httpx, which carries all of Covenant's traffic, would go through a proxy."""
    with httpx.Client() as client:
        return client._transport_for_url(httpx.URL(url)) is not client._transport


def test_a_configured_proxy_is_used_except_for_loopback(monkeypatch):
    environment_of_the_process(monkeypatch, quiet_environment({}, proxy=PROXY))
    assert proxied("https://fl.bank.example:9092")
    assert getproxies_environment()["https"] == PROXY
    for host in LOOPBACK:
        assert not proxied(f"https://{host}:9092"), host
    assert proxy_bypass_environment("127.0.0.1")


def test_without_a_configured_proxy_none_is_used(monkeypatch):
    noisy = {"HTTPS_PROXY": PROXY, "all_proxy": PROXY}
    environment_of_the_process(monkeypatch, noisy)
    assert proxied("https://fl.bank.example:9092")  # a control: httpx would have used it
    environment_of_the_process(monkeypatch, quiet_environment(noisy))
    assert not proxied("https://fl.bank.example:9092")


def test_a_child_is_quiet_and_knows_flowers_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    found = child_environment(flower_home=tmp_path)
    assert found["FLWR_HOME"] == str(tmp_path)
    assert PROXY not in found.values()
    monkeypatch.delenv("FLWR_HOME", raising=False)
    assert "FLWR_HOME" not in child_environment()


def test_a_process_that_keeps_quiet_forgets_its_proxies(tmp_path):
    code = (
        "import json, os; from pathlib import Path; from protos.egress import keep_quiet;"
        f"keep_quiet(flower_home=Path({str(tmp_path)!r})); print(json.dumps(dict(os.environ)))"
    )
    noisy = dict(os.environ) | {"HTTPS_PROXY": PROXY, "All_Proxy": PROXY, "FLWR_TELEMETRY_ENABLED": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=noisy, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert PROXY not in found.values()
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    assert found["FLWR_HOME"] == str(tmp_path)
