"""What Covenant assumes of flwr's inside, checked against the installed one.

When one of these fails, flwr has moved: read its change log, then `client/fleet` and `coordinator/flower`, and only those.
"""

from __future__ import annotations

import dataclasses
import inspect
from importlib.metadata import packages_distributions, version

import pytest
from flwr.supercore.constant import TaskType
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.grid import HttpGrid
from flwr.superlink.main import create_app
from flwr.superlink.runtime import run_serverapp
from flwr.supernode.fleet_http_client import FleetHttpClient

from coordinator.flower.manifest import build_bundle
from coordinator.flower.superlink_process import INERT_LAYERS


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("flwr").startswith("1.41.")


def test_the_superlinks_layers_are_the_ones_that_were_judged() -> None:
    layers = [layer.cls for layer in create_app().user_middleware]
    kept = [layer.__name__ for layer in layers if layer not in INERT_LAYERS]
    assert set(layers) >= INERT_LAYERS
    assert kept == [
        "BaseHTTPMiddleware",
        "ControlAuthenticationMiddleware",
        "ProtobufTranslationMiddleware",
        "NodeAuthMiddleware",
    ]


def test_the_superlinks_settings_are_the_ones_that_we_set() -> None:
    names = {field.name for field in dataclasses.fields(SuperLinkLifespanConfig)}
    assert names == {
        "control_address", "health_server_address", "host", "port", "insecure", "certificates", "superexec_auth_secret",
        "authn_plugin", "event_log_plugin", "fleet_event_log_plugin", "enable_event_log", "artifact_provider",
        "enable_supernode_auth", "fleet_api_type", "fleet_api_address", "simulation", "ssl_ca_certfile", "ssl_certfile",
        "ssl_keyfile", "database", "isolation", "runtime_dependency_install",
    }  # fmt: skip


@pytest.mark.parametrize(
    "call",
    ["ActivateNode", "DeactivateNode", "SendNodeHeartbeat", "PullMessages", "PushMessages", "GetRun", "GetFab", "PushObject",
     "PullObject", "ConfirmMessageReceived"],
)  # fmt: skip
def test_the_fleet_client_has_every_call_of_the_agent(call: str) -> None:
    assert callable(getattr(FleetHttpClient, call))


def test_the_grid_has_what_the_prompt_grid_reaches_into() -> None:
    assert isinstance(inspect.getattr_static(HttpGrid, "_runtime_client"), property)
    assert {"push_messages", "run"} <= set(dir(HttpGrid))


def test_the_server_process_takes_its_token_as_an_argument() -> None:
    assert {
        "runtime_api_address",
        "token",
        "certificates",
        "parent_pid",
        "runtime_dependency_install",
    } <= set(inspect.signature(run_serverapp).parameters)
    assert TaskType.SERVER_APP


def test_the_manifest_is_the_same_bytes_everywhere() -> None:
    """Sites pin this digest; it may change with a release, never with a machine."""
    assert build_bundle().digest == build_bundle().digest
    assert len(build_bundle().content) < 4096


@pytest.mark.parametrize("name", ["coordinator", "client", "protos", "strategies", "simulation"])
def test_no_dependency_provides_a_module_of_ours(name: str) -> None:
    assert packages_distributions().get(name, ["covenant-fl"]) == ["covenant-fl"]
