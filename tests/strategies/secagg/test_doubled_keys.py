"""Two sites that sign one key between them keep nobody else from summing up."""

from __future__ import annotations

from dataclasses import replace

from strategies.secagg import server as central
from strategies.secagg.client import advertise
from strategies.secagg.messages import ADVERTISEMENT
from tests.strategies.secagg.attempt_for_tests import Federation


def test_the_owners_of_a_doubled_key_are_left_out_of_the_cohort() -> None:
    federation = Federation(count=6)
    step = central.Advertising(federation.server)
    made = {
        site: advertise(federation.client(site), federation.entropy).advertisement
        for site in federation.sites
    }
    first, second = federation.sites[:2]
    signed = made[second].signed_bytes(
        federation.attempt, second, made[first].mask_key, made[second].envelope_key, made[second].own_seed
    )
    signature = federation.identities.signer(second)(ADVERTISEMENT, signed)
    made[second] = replace(made[second], mask_key=made[first].mask_key, signature=signature)
    for item in made.values():
        step.receive(item)
    assert step.close().cohort.sites == federation.sites[2:]
