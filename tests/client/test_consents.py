"""A person at a site is asked before a plan runs there: what is recorded, how long it counts, and that the centre hears no more than that it should ask again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client import cli
from client.admission.consent import kind_of
from client.admission.findings import NOT_NOW
from client.bootstrap import consents_of, open_participant
from client.keystore import load_identity
from client.participant import Participant
from protos.codec import decode_reply, encode_request
from protos.consent import Consent, Verdict, consent
from protos.frames import Body, Moments, Refusal, RefusalCode, Request
from protos.keys import SigningKey
from protos.plan import Plan
from protos.shell import run_command
from protos.site import load_site
from strategies.ids import RunId
from tests.bank_for_tests import SITES, Bank, make_bank
from tests.client.loans_for_tests import CONTRACT, plan
from tests.client.panels_for_tests import REWEIGHED, panelled
from tests.client.private_for_tests import private_plan
from tests.witness_for_tests import vouched

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@dataclass
class West:
    """The site west, whose rule asks a person, at a time that a test sets."""

    bank: Bank
    now: datetime = NOW
    _running: Participant | None = field(default=None)

    def ask(self, confirm: str, more: str = "") -> None:
        """Start with a rule that says `confirm`, and a policy that says `more`."""
        self.bank.edit("west", "modes: [plain]}\n", f"modes: [plain]}}\n      confirm: {confirm}\n")
        self.bank.edit("west", "policy:\n", f"policy:\n{more}")
        self.start()

    def start(self) -> None:
        if self._running is not None:
            self._running.close()
        started = open_participant(self.bank.config_file("west"), clock=lambda: self.now)
        self._running = vouched(started, SITES)

    def says(self, to: Plan, *, again: bool = False) -> Body:
        assert self._running is not None
        return decode_reply(self._running.answer(encode_request(self.request(to, again=again)))).body

    def request(self, to: Plan, *, again: bool = False) -> Request:
        """Of a run of its own for each plan, and `again` of another one."""
        digits = to.digest[16:32] if again else to.digest[:16]
        return self.bank.request(to, run=RunId(f"run-{digits}"))

    def refusal(self, to: Plan, *, again: bool = False) -> Refusal:
        said = self.says(to, again=again)
        assert isinstance(said, Refusal)
        return said

    def record(self, of: Plan, verdict: Verdict = "allow", *, days: float = 30, signer: SigningKey | None = None, federation: str | None = None) -> Consent:  # fmt: skip
        """What a person says now, as another process writes it."""
        config = load_site(self.bank.config_file("west"))
        key = load_identity(config)
        book = consents_of(config, key, clock=lambda: self.now)
        said = consent(
            federation=federation or book.federation,
            site=config.site,
            plan=of.digest,
            name=of.name,
            kind=kind_of(of, CONTRACT),
            verdict=verdict,
            by="dpo-west",
            reason=None,
            at=self.now,
            expires=self.now + timedelta(days=days) if verdict == "allow" else None,
            signer=signer or key,
        )
        book.say(said)
        book.close()
        return said

    def agent(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as left:
            run_command(
                lambda: cli.app(
                    [*arguments, "--config", str(self.bank.config_file("west"))], standalone_mode=False
                )
            )
        return left.value.code


@pytest.fixture
def west(tmp_path: Path):
    made = West(make_bank(tmp_path))
    yield made
    if made._running is not None:
        made._running.close()


def witnessed(west: West, *plans: Plan) -> None:
    """All sites witness these plans while west still asks nobody; who witnessed is not asked again."""
    for each in plans:
        for again in (False, True):
            west.request(each, again=again)


LONGER = plan(rounds=9)
WIDER = plan().model_copy(update={"features": ("amount", "income")})


def test_a_plan_that_must_be_allowed_is_answered_as_soon_as_it_was(west: West) -> None:
    witnessed(west, plan())
    west.ask("always")
    said = west.refusal(plan())
    assert (said.code, said.reason, said.evidence) == (RefusalCode.LATER, NOT_NOW, b"")
    west.record(plan())
    assert isinstance(west.says(plan()), Moments)


def test_a_rule_that_asks_nobody_awaits_nobody_and_begins_no_file(west: West) -> None:
    witnessed(west, plan())
    west.ask("never")
    assert isinstance(west.says(plan()), Moments)
    assert not (west.bank.folder / "west" / "consents.db").exists()


def test_consent_is_to_one_plan_where_each_must_be_allowed(west: West) -> None:
    witnessed(west, plan(), LONGER)
    west.ask("always")
    west.record(plan())
    assert west.refusal(LONGER).code is RefusalCode.LATER


def test_a_kind_of_plan_is_new_once(west: West) -> None:
    witnessed(west, plan(), LONGER, WIDER)
    west.ask("first-time")
    assert west.refusal(plan()).code is RefusalCode.LATER
    west.record(plan())
    assert isinstance(west.says(LONGER), Moments)
    assert west.refusal(WIDER).code is RefusalCode.LATER


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"name": "another"}, True),
        ({"features": ("term", "amount", "income")}, True),
        ({"features": ("amount", "term")}, False),
        ({"purpose": "marketing"}, False),
    ],
)
def test_what_makes_a_plan_new(changes: dict[str, object], same: bool) -> None:
    changed = plan().model_copy(update=changes)
    assert (kind_of(changed, CONTRACT) == kind_of(plan(), CONTRACT)) is same


def test_another_model_contract_or_algorithm_is_another_kind() -> None:
    kind = kind_of(plan(), CONTRACT)
    assert kind_of(plan(model="{kind: mlp, hidden: [4]}"), CONTRACT) != kind
    assert kind_of(plan(algorithm="fedprox", proximal_mu=0.1), CONTRACT) != kind
    assert kind_of(plan(), CONTRACT.model_copy(update={"version": 2})) != kind
    assert kind_of(plan(rounds=7, learning_rate=0.2, seed=5), CONTRACT) == kind


def test_a_consent_runs_out_but_not_under_a_run_that_has_begun(west: West) -> None:
    witnessed(west, plan())
    west.ask("always")
    west.record(plan(), days=1)
    assert isinstance(west.says(plan()), Moments)
    west.now = NOW + timedelta(days=1)
    assert west.refusal(plan(), again=True).code is RefusalCode.LATER
    assert isinstance(west.says(plan()), Moments)


def test_a_denial_counts_at_once_and_for_good_whatever_the_rule_asks(west: West) -> None:
    witnessed(west, plan())
    west.ask("never")
    assert isinstance(west.says(plan()), Moments)
    west.record(plan(), "deny")
    said = west.refusal(plan(), again=True)
    assert (said.code, said.reason) == (RefusalCode.POLICY, "this site's policy does not admit this plan")
    west.record(plan())
    assert isinstance(west.says(plan(), again=True), Moments)


def test_a_denial_of_one_plan_takes_with_it_what_its_own_consent_allowed(west: West) -> None:
    witnessed(west, plan(), LONGER)
    west.ask("first-time")
    west.record(plan())
    west.record(plan(), "deny")
    assert west.refusal(LONGER).code is RefusalCode.LATER


def test_a_consent_that_another_key_signed_or_for_another_federation_does_not_count(west: West) -> None:
    witnessed(west, plan())
    west.ask("always")
    west.record(plan(), signer=SigningKey.generate())
    west.record(plan(), federation="ab" * 32)
    assert west.refusal(plan()).code is RefusalCode.LATER


def test_a_consent_survives_a_restart(west: West) -> None:
    witnessed(west, plan())
    west.ask("always")
    west.record(plan())
    west.start()
    assert isinstance(west.says(plan()), Moments)


def test_what_waits_is_listed_and_allowed_by_its_digits(
    west: West, capsys: pytest.CaptureFixture[str]
) -> None:
    witnessed(west, plan())
    west.ask("always")
    west.now = datetime.now(UTC)  # the commands know no other clock
    west.refusal(plan())
    west.refusal(plan())
    capsys.readouterr()
    assert west.agent("plan", "pending", "--json") == 0
    (waiting,) = json.loads(capsys.readouterr().out)["pending"]
    assert (waiting["plan"], waiting["name"]) == (plan().digest, "default")
    assert west.agent("plan", "allow", plan().digest[:12], "--for", "7d", "--reason", "agreed") == 0
    west.now = datetime.now(UTC) + timedelta(seconds=1)
    assert isinstance(west.says(plan()), Moments)
    capsys.readouterr()
    assert west.agent("plan", "pending", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pending"] == []
    assert west.agent("plan", "deny", plan().digest[:12]) == 0
    assert west.refusal(plan(), again=True).code is RefusalCode.POLICY


def test_a_plan_whose_consent_ran_out_waits_again_once_it_is_asked_for(west: West) -> None:
    witnessed(west, plan())
    west.ask("always")
    west.record(plan(), days=1)
    assert isinstance(west.says(plan()), Moments)
    config = load_site(west.bank.config_file("west"))
    book = consents_of(config, load_identity(config), clock=lambda: west.now)
    west.now = NOW + timedelta(days=2)
    assert book.waiting() == ()
    for _ in range(3):
        assert west.refusal(plan(), again=True).code is RefusalCode.LATER
    assert [each.plan.digest for each in book.waiting()] == [plan().digest]
    assert book.find(plan().digest[:12]) == plan()
    west.record(plan())
    assert book.waiting() == ()
    book.close()


def test_plan_test_names_the_command_and_leaves_with_3_until_it_was_allowed(
    west: West, capsys: pytest.CaptureFixture[str]
) -> None:
    west.ask("always")
    path = west.bank.folder / "plan.json"
    path.write_bytes(plan().canonical)
    assert west.agent("plan", "test", str(path)) == 3
    assert f"covenant-agent plan allow {plan().digest[:12]}" in " ".join(capsys.readouterr().err.split())
    assert west.agent("plan", "allow", str(path)) == 0
    assert west.agent("plan", "test", str(path)) == 0


def test_who_may_consent_and_for_how_long_is_the_policys(
    west: West, capsys: pytest.CaptureFixture[str]
) -> None:
    west.ask("always", "  owner: dpo-west\n  consent_for: 7d\n")
    path = west.bank.folder / "plan.json"
    path.write_bytes(plan().canonical)
    assert west.agent("plan", "allow", str(path), "--by", "somebody") == 3
    assert "`policy.owner` of west is dpo-west, who alone consents to plans here" in " ".join(
        capsys.readouterr().err.split()
    )
    assert west.agent("plan", "allow", str(path), "--for", "8d") == 3
    assert "is longer than `policy.consent_for` admits, 7 days" in " ".join(capsys.readouterr().err.split())
    assert west.agent("plan", "allow", str(path), "--for", "soon") == 2
    assert west.agent("plan", "allow", "0123456789ab") == 2
    assert "`covenant-agent plan pending` lists them" in " ".join(capsys.readouterr().err.split())
    assert west.agent("plan", "allow", str(path), "--by", "dpo-west") == 0
    assert "dpo-west allowed plan default" in " ".join(capsys.readouterr().err.split())


def test_no_more_plans_are_kept_than_a_person_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.consents.MOST_PENDING", 2)
    config = make_bank(tmp_path).config("west")
    book = consents_of(config, load_identity(config), clock=lambda: NOW)
    assert [book.note(plan(rounds=number)) for number in (1, 2, 2, 3)] == [True, True, True, False]
    assert len(book.waiting()) == 2
    book.close()


def test_each_panel_is_another_kind_and_how_a_plan_trains_under_it_is_not() -> None:
    """A person who has consented to score counts has not to groups, and not to finer ones."""
    whole = panelled("none")
    asked = whole.evaluation
    kinds = [
        whole,
        panelled("rows"),
        panelled("none", REWEIGHED),
        whole.model_copy(update={"protected": ("sex",)}),
        *(
            whole.model_copy(update={"evaluation": asked.model_copy(update={name: None})})
            for name in ("fairness", "explanations", "profile")
        ),
        private_plan(),
    ]
    assert len({kind_of(each, CONTRACT) for each in kinds}) == len(kinds)
    longer = whole.training.model_copy(update={"rounds": 7})
    assert kind_of(whole.model_copy(update={"training": longer}), CONTRACT) == kind_of(whole, CONTRACT)
