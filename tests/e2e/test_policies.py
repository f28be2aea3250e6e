"""A pack that takes effect while no coordinator runs is judged by once one does; until then a launch is refused all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.bootstrap import Centre
from coordinator.documents import read_listed
from coordinator.governance.policies.packs import kept_packs, publish
from coordinator.runs import launch
from protos.keys import SigningKey
from protos.membership import Role
from protos.passphrases import read_passphrase
from protos.policy_pack import PackStatements, PolicyPack, SignedPack, state_pack
from simulation.deployment import Deployment
from simulation.officers import OFFICERS
from strategies.errors import Refused
from tests.e2e.conftest import Federation, lay_out
from tests.policies_for_tests import pack, rule

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def published(deployment: Deployment, what: PolicyPack) -> None:
    centre, officers = deployment.centre(), deployment.officers
    listed = read_listed(centre.settings)
    said = PackStatements()
    for name, role in OFFICERS.items():
        if role is not Role.ML_ENGINEER:
            key = SigningKey.load(officers.key(name), read_passphrase(officers.passphrase(name)))
            said = said.adding(
                state_pack(what, name, role, key, federation=listed.trusted.federation, at=centre.clock())
            )
    publish(centre, SignedPack(pack=what, statements=said.statements), listed)


def in_force(centre: Centre) -> list[str]:
    return [each.pack.ref for each in kept_packs(centre) if each.in_force_at is not None]


def test_a_pack_of_a_time_when_nobody_led_is_judged_by_at_the_start(tmp_path: Path) -> None:
    deployment, plan = lay_out(tmp_path)
    with deployment:
        deployment.start_coordinator()
        deployment.wait_until_ready()
        deployment.approve(plan)
        deployment.kill("coordinator")
        published(deployment, pack(rule(expression="plan.rounds <= 1")))
        centre = deployment.centre()
        assert in_force(centre) == []
        deployment.start_coordinator()
        federation = Federation(deployment, plan)
        federation.wait(lambda: in_force(centre) == ["house@1"], "the first pack", 60.0)
        with pytest.raises(Refused, match=r"blocked by policy pack house@1: few-rounds"):
            launch(centre, plan)
        published(deployment, pack(rule(), version=2))
        federation.wait(lambda: in_force(centre) == ["house@1", "house@2"], "the second pack", 60.0)
        launch(centre, plan)
