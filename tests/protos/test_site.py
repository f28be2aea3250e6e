"""A site's settings: paths, defaults that deny, and what is refused."""

from pathlib import Path

import pytest

from protos.documents import DocumentError, read_document
from protos.passphrases import PassphraseSource
from protos.site import SiteConfig, load_site
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit, UnitKind
from tests.protos.documents_for_tests import SITE, changed


def read(text: str) -> SiteConfig:
    return read_document(text, SiteConfig, "site.yaml")


def test_paths_belong_to_the_folder_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/site.yaml").write_text(changed(SITE, "key: site.key", "key: /secrets/site.key"))
    monkeypatch.chdir(tmp_path)
    config = load_site(Path("etc/site.yaml"))
    assert config.federation.ca == tmp_path / "etc/ca.crt"
    assert config.federation.root == tmp_path / "etc/root.json"
    assert config.identity.key == Path("/secrets/site.key")
    source = config.data["loans"]
    assert source.file == tmp_path / "etc/data/loans.parquet"
    assert source.contract_file == tmp_path / "etc/lending-club.yaml"
    assert dict(source.columns) == {"income": "annual_inc"}


def test_quantities_are_seconds():
    run = read(SITE).run
    assert (run.idle_poll, run.busy_poll) == (1.0, 0.025)


def test_what_is_not_allowed_is_denied():
    head, _ = SITE.split("allow:")
    config = read(head)
    assert config.policy.accept == ()
    assert config.allow.apps == ()
    assert config.run.idle_poll == 1.0


def test_a_source_is_found_by_its_contract():
    config = read(SITE)
    assert config.source_for("lending-club@1") is config.data["loans"]
    assert config.source_for("lending-club@2") is None


BAD = {
    "superlink without a port": ('"127.0.0.1:9092"', "fl.example", "use host:port"),
    "superlink with a port out of range": ('"127.0.0.1:9092"', "fl.example:70000", "a port from 1 to 65535"),
    "superlink as a URL": ('"127.0.0.1:9092"', '"https://fl.example:9092"', "use host:port"),
    "proxy with a password": (
        "proxy: none",
        '"proxy": "http://me:pass@proxy:3128"',
        "a URL with a port and no password",
    ),
    "empty proxy": ("proxy: none", "proxy: ", "`federation.proxy` is empty"),
    "inline key": (
        "key: site.key,",
        "key: site.key, passphrase: hunter2,",
        "a passphrase is never written here; name a credential or a file",
    ),
    "misspelt policy": (
        "purpose:",
        "purposes:",
        "line 14: unknown key `policy.accept[0].purposes`; did you mean `purpose`?",
    ),
    "policy of an unknown mode": ("modes: [none]", "modes: [any]", "it should be 'none'"),
    "word for a list": (
        "contracts: [lending-club@1]",
        "contracts: lending-club@1",
        '`policy.accept[0].contracts` is "lending-club@1"',
    ),
    "digest that is none": ("fab_sha256: []", "fab_sha256: [abc]", "'abc' is not a SHA-256 digest"),
    "app that is a path": ('"client.app:app"', '"/tmp/app.py"', "an installed module and its app"),
    "polling more slowly when busy": (
        "busy_poll: 25ms",
        "busy_poll: 2s",
        "`run.busy_poll`: 2.0 s is longer than",
    ),
    "polling without a unit": ("busy_poll: 25ms", "busy_poll: 25", "number with a unit"),
    "no threads": ("cpu_threads: 1", "cpu_threads: 0", "`run.cpu_threads` is 0"),
    "site that is a boolean": ("site: west", "site: true", "`site` is true"),
    "two populations of one contract": (
        "    columns: {income: annual_inc}\n",
        "  old: {contract: lending-club@1, contract_file: a, file: b}\n",
        "loans and old both follow lending-club@1",
    ),
}


@pytest.mark.parametrize("defect", BAD)
def test_bad_settings_are_refused(defect: str):
    old, new, sentence = BAD[defect]
    with pytest.raises(DocumentError) as caught:
        read(changed(SITE, old, new))
    assert sentence in str(caught.value)


def test_a_passphrase_that_stands_where_it_must_not_is_not_repeated():
    with pytest.raises(DocumentError) as caught:
        read(changed(SITE, "key: site.key,", "key: site.key, passphrase: hunter2,"))
    assert "hunter2" not in str(caught.value)


def test_a_passphrase_is_in_a_file_or_a_credential():
    found = read(changed(SITE, "key: site.key,", "key: site.key, passphrase: {credential: site-key},"))
    assert found.identity.passphrase == PassphraseSource(credential="site-key")


def test_no_data_is_refused():
    head, _ = SITE.split("data:\n")
    with pytest.raises(DocumentError, match=r"`data` is \{\}"):
        read(f"{head}data: {{}}\n")


# What may become known of the rows.

ACCOUNT = "    columns: {income: annual_inc}\n"


def with_account(account: str, more: str = "") -> SiteConfig:
    return read(changed(SITE, ACCOUNT, f"{ACCOUNT}    account: {account}\n{more}"))


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("{kind: record}", PrivacyUnit(kind=UnitKind.RECORD)),
        (
            "{kind: customer, column: customer_id, max_rows: 3, max_sites: 2}",
            PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=3, max_sites=2),
        ),
        ("{kind: site, max_rows: 5000}", PrivacyUnit(kind=UnitKind.SITE, max_rows=5000)),
    ],
)
def test_an_account_is_a_ceiling_per_unit(written: str, unit: PrivacyUnit):
    rule = with_account(f"{{unit: {written}, epsilon: 8.0, delta: 1.0e-6}}").data["loans"].account
    assert rule is not None
    assert rule.ceiling == Ceiling.fixed(epsilon=8.0, delta=1e-6, unit=unit)
    assert rule.alert_at == (0.5, 0.8)


def test_the_order_of_the_filter_may_be_given():
    rule = (
        with_account("{unit: {kind: record}, epsilon: 8.0, delta: 1.0e-6, order: 12}").data["loans"].account
    )
    assert rule is not None
    assert rule.ceiling.order == 12


def test_a_population_has_no_account_unless_one_is_written_down():
    source = read(SITE).data["loans"]
    assert source.account is None
    assert source.overlaps == ()


def test_sites_with_the_same_people_are_named():
    source = with_account(
        "{unit: {kind: record}, epsilon: 8.0, delta: 1.0e-6}", "    overlaps: [south, midwest]\n"
    ).data["loans"]
    assert source.overlaps == ("south", "midwest")


def test_a_population_is_what_the_site_calls_it():
    config = read(SITE)
    assert config.population_of(config.data["loans"]) == "loans"


def test_no_stage_may_be_without_noise_unless_the_policy_names_it():
    assert read(SITE).policy.accept[0].privacy.exemptions == ()
    (rule,) = read(
        changed(SITE, "modes: [none]", "modes: [none, distributed], exemptions: [evaluation]")
    ).policy.accept
    assert rule.privacy.exemptions == ("evaluation",)
    assert rule.privacy.modes == ("none", "distributed")
    assert rule.privacy.max_epsilon_per_plan is None


def test_accounts_lie_beside_the_journal_unless_they_are_shared(tmp_path):
    (tmp_path / "site.yaml").write_text(SITE)
    assert load_site(tmp_path / "site.yaml").accounts == tmp_path / "accounts.db"
    (tmp_path / "site.yaml").write_text(
        changed(SITE, "run: {", "accounts: /var/lib/covenant/accounts.db\nrun: {")
    )
    assert load_site(tmp_path / "site.yaml").accounts == Path("/var/lib/covenant/accounts.db")


FULL = "{unit: {kind: record}, epsilon: 8.0, delta: 1.0e-6}"
BAD_ACCOUNTS = {
    "no unit": ("unit: {kind: record}, ", "", "`data.loans.account.unit` is missing"),
    "an unknown unit": ("kind: record", "kind: person", "`data.loans.account.unit.kind`"),
    "a customer without a column": ("kind: record", "kind: customer, max_rows: 2", "`data.loans.account.unit.column` is missing"),
    "no epsilon": ("epsilon: 8.0, ", "", "`data.loans.account.epsilon` is missing"),
    "an epsilon of 0": ("epsilon: 8.0", "epsilon: 0", "`data.loans.account.epsilon` is 0"),
    "an epsilon that is no number": ("epsilon: 8.0", "epsilon: .nan", "`data.loans.account.epsilon` is NaN"),
    "an infinite epsilon": ("epsilon: 8.0", "epsilon: .inf", "`data.loans.account.epsilon` is Infinity"),
    "no delta": (", delta: 1.0e-6", "", "`data.loans.account.delta` is missing"),
    "a delta of 0": ("delta: 1.0e-6", "delta: 0", "`data.loans.account.delta` is 0"),
    "a delta of 1": ("delta: 1.0e-6", "delta: 1", "`data.loans.account.delta` is 1"),
    "a delta that is no number": ("delta: 1.0e-6", "delta: .nan", "`data.loans.account.delta` is NaN"),
    "an order of 1": ("delta: 1.0e-6", "delta: 1.0e-6, order: 1", "`data.loans.account.order` is 1"),
    "an order that leaves nothing": ("delta: 1.0e-6", "delta: 1.0e-6, order: 2", "`data.loans.account.epsilon`: epsilon 8.0 at delta 1e-06 leaves nothing to spend at order 2; raise epsilon or delta"),
    "an order that is not computed": ("delta: 1.0e-6", "delta: 1.0e-6, order: 65", "the filter's order is 65; use one of 2, 3"),
    "an epsilon that leaves nothing": ("epsilon: 8.0", "epsilon: 0.0001", "leaves nothing to spend at order"),
    "an alert at all of it": ("delta: 1.0e-6", "delta: 1.0e-6, alert_at: [1]", "`data.loans.account.alert_at[0]` is 1"),
    "an alert at nothing": ("delta: 1.0e-6", "delta: 1.0e-6, alert_at: [0]", "`data.loans.account.alert_at[0]` is 0"),
    "an alert twice": ("delta: 1.0e-6", "delta: 1.0e-6, alert_at: [0.5, 0.5]", "named twice"),
    "a balance": ("delta: 1.0e-6", "delta: 1.0e-6, spent: 0", "unknown key `data.loans.account.spent`"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), BAD_ACCOUNTS.values(), ids=BAD_ACCOUNTS.keys())
def test_bad_accounts_are_refused(old: str, new: str, sentence: str):
    with_account(FULL)
    with pytest.raises(DocumentError) as caught:
        with_account(changed(FULL, old, new))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("modes: [none]", "modes: [none, none]", "'none' is named twice"),
        ("modes: [none]", "modes: [none], exemptions: [training]", "it should be 'preparation' or 'evaluation'"),
        ("modes: [none]", "modes: [none], max_epsilon_per_plan: 0", "`policy.accept[0].privacy.max_epsilon_per_plan` is 0"),
        ("modes: [none]", "modes: [none], max_epsilon_per_plan: .nan", "`policy.accept[0].privacy.max_epsilon_per_plan` is NaN"),
        ("    columns: {income: annual_inc}\n", "    overlaps: [West]\n", "'West' is not a site name"),
        ("    columns: {income: annual_inc}\n", "    overlaps: [south, south]\n", "'south' is named twice"),
    ],
)  # fmt: skip
def test_bad_rules_about_privacy_are_refused(old: str, new: str, sentence: str):
    with pytest.raises(DocumentError) as caught:
        read(changed(SITE, old, new))
    assert sentence in str(caught.value)


# The same rows under several contracts.

SECOND = """\
  loans-2:
    contract: lending-club@2
    contract_file: lending-club-2.yaml
    file: {file}
"""


def with_second(file: str, more: str = "", account: str = "") -> SiteConfig:
    first = f"{ACCOUNT}    account: {FULL}\n"
    return read(changed(SITE, ACCOUNT, first + SECOND.format(file=file) + more + account))


def test_the_same_rows_under_another_contract_are_the_same_population():
    config = with_second("data/loans.parquet", "    population: loans\n", f"    account: {FULL}\n")
    assert [config.population_of(source) for source in config.data.values()] == ["loans", "loans"]


def test_other_rows_are_another_population():
    config = with_second("data/others.parquet")
    assert [config.population_of(source) for source in config.data.values()] == ["loans", "loans-2"]


@pytest.mark.parametrize(
    ("file", "more", "account", "sentence"),
    [
        ("data/loans.parquet", "", "", "are the same file, loans.parquet, and would have an account each"),
        ("data/../data/loans.parquet", "", "", "are the same file"),
        ("data/others.parquet", "    population: loans\n", "", "population loans has two different accounts"),
        (
            "data/loans.parquet",
            "    population: loans\n",
            f"    account: {FULL.replace('8.0', '9.0')}\n",
            "population loans has two different accounts",
        ),
    ],
)
def test_the_same_rows_never_have_two_accounts(file: str, more: str, account: str, sentence: str):
    with pytest.raises(DocumentError) as caught:
        with_second(file, more, account)
    assert sentence in str(caught.value)
