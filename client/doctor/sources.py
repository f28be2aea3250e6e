"""Data, contract and policy, as far as they can be judged without reading a row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

from client.data.connectors.open import connector_of
from client.doctor.findings import Check, Finding, Patient, doubtful, fine, wrong
from protos.contract import Contract
from protos.documents import load_document
from strategies.errors import CovenantError


def _contracts(patient: Patient) -> Iterator[Finding]:
    for name, source in patient.config.data.items():
        agreed = load_document(source.contract_file, Contract)
        if agreed.ref != source.contract:
            yield wrong(
                "contract",
                f"`data.{name}.contract` says {source.contract}, and {source.contract_file.name} is {agreed.ref}",
                evidence=f"digest {agreed.digest[:16]}",
                then="correct the reference, or ask the centre for the right contract",
            )
        else:
            yield fine("contract", f"{name} follows {agreed.ref}", f"digest {agreed.digest[:16]}")


def _data(patient: Patient) -> Iterator[Finding]:
    for name, source in patient.config.data.items():
        try:
            columns = connector_of(source).columns()
        except CovenantError as error:
            yield wrong(
                "data",
                f"the rows of {name} cannot be read: {error}",
                evidence=f"{source.named}, user {os.geteuid()}",
                then=f"let the agent's user read {source.named}, then: covenant-agent data check {name}",
            )
        else:
            yield fine("data", f"the rows of {name} are there", f"{len(columns)} columns")


def _policy(patient: Patient) -> Iterator[Finding]:
    config, rules = patient.config, patient.config.policy.accept
    if not rules:
        yield doubtful(
            "policy",
            "`policy.accept` has no rule, so this site takes part in no plan",
            then=f"have the privacy officer write down what is admitted in {patient.file}",
        )
        return
    if any("secure" in rule.aggregation.modes for rule in rules) and config.peers is None:
        yield doubtful(
            "policy",
            "`peers` is not configured, so this site is in no secure sum",
            then="list the sites that you know to be real under `peers`",
        )
    for name, source in config.data.items():
        about = [rule for rule in rules if source.contract in rule.contracts]
        private = {mode for rule in about for mode in rule.privacy.modes} - {"none"}
        if private and source.account is None:
            yield doubtful(
                "policy",
                f"{', '.join(sorted(private))} plans are admitted, and `data.{name}` has no account for them",
                then=f"have the privacy officer set `data.{name}.account`",
            )
    modes = sorted({mode for rule in rules for mode in rule.privacy.modes})
    said = ", ".join(sorted({rule.purpose for rule in rules}))
    yield fine("policy", f"plans for {said} are admitted", f"modes {', '.join(modes)}")


CHECKS: Final[Sequence[Check]] = (
    Check("contract", _contracts),
    Check("data", _data),
    Check("policy", _policy),
)
