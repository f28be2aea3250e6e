"""A site's settings: paths, defaults that deny, and what is refused."""

from pathlib import Path

import pytest

from protos.documents import DocumentError, read_document
from protos.site import SiteConfig, load_site
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
    bare = "\n".join(line for line in SITE.splitlines() if not line.startswith(("allow", "policy", "run")))
    config = read(bare)
    assert config.policy.purposes == config.policy.privacy_modes == config.policy.aggregation == ()
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
        "unknown key `identity.passphrase`",
    ),
    "misspelt policy": (
        "purposes:",
        "purpose:",
        "line 12: unknown key `policy.purpose`; did you mean `purposes`?",
    ),
    "policy of an unknown mode": ("privacy_modes: [none]", "privacy_modes: [any]", "it should be 'none'"),
    "word for a list": (
        "purposes: [credit-risk]",
        "purposes: credit-risk",
        '`policy.purposes` is "credit-risk"',
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


def test_no_data_is_refused():
    head, _ = SITE.split("data:\n")
    with pytest.raises(DocumentError, match=r"`data` is \{\}"):
        read(f"{head}data: {{}}\n")
