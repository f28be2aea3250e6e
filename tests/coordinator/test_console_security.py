"""What the console refuses: roles, forms of others, hosts, paths, bodies; and what it never shows or writes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pyotp
import pytest
from starlette.requests import Request

import coordinator.console
from coordinator.api.roles import RULES, Rule
from coordinator.console.app import HEADERS, _Entrance
from coordinator.console.connections import Bounded, Doorstep, address_of
from coordinator.console.console import Console
from coordinator.console.links import PATH, make_link
from coordinator.console.pages.signin import inside
from coordinator.console.rates import Rates, TooOften
from coordinator.console.routes import ANYBODY, SIGNED_IN, Route, all_routes
from coordinator.console.sessions import COOKIE, Sessions
from coordinator.console.tables import Cell, Column, Table
from coordinator.control_tls import control_files
from protos.log_office import CallDenied
from protos.membership import Role
from strategies.errors import CovenantError, DiskError
from tests.coordinator.api_for_tests import BY_ROLE
from tests.coordinator.console_for_tests import Browser, Pages, Shifted, Ticking, copied, pages

HOUSE = Path(coordinator.console.__file__).parent
NO_ROLE = "Not for your role"
GUARDED = [each for each in all_routes() if each.needs != ANYBODY]
FORMS = [each for each in all_routes() if each.method == "POST"]


@pytest.fixture(scope="module")
def clock() -> Shifted:
    return Shifted()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, clock: Shifted) -> Iterator[Pages]:
    for bank in copied(tmp_path_factory.mktemp("console")):
        bank.centre = replace(bank.centre, clock=clock, monotonic=Ticking(), sleep=lambda _: None)
        with pages(bank) as found:
            yield found


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


def path_of(route: Route) -> str:
    return re.sub(r"\{[^}]+\}", "x", route.path)


def token_of(served: Pages, browser: Browser) -> str:
    session = served.sessions.find(browser.client.cookies[COOKIE], served.centre.clock())
    assert session is not None
    return session.token


# --- roles ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role), ids=str)
def test_every_route_is_for_the_roles_of_its_rule_and_no_other(served: Pages, role: Role) -> None:
    browser = served.browser()
    for route in GUARDED:
        served.signed_in(browser, BY_ROLE[role])
        if route.method == "POST":
            fields = {"token": token_of(served, browser)}
            answered = browser.client.post(
                path_of(route), data=fields, headers={"Origin": served.address}, follow_redirects=False
            )
        else:
            answered = browser.client.get(path_of(route), follow_redirects=False)
        allowed = route.needs == SIGNED_IN or role in RULES[route.needs].roles
        refused = answered.status_code == 403 and NO_ROLE in answered.text
        assert refused != allowed, f"{named(route)} for {role}: {answered.status_code}"
        assert answered.status_code < 500, f"{named(route)} for {role}: {answered.text}"


def test_a_change_without_the_role_is_told_to_the_log_and_only_that(served: Pages) -> None:
    def told() -> list[str]:
        found = [each for each in served.bank.told("denied") if isinstance(each, CallDenied)]
        return [each.method for each in found if each.officer == "admin-1"]

    browser, path, method = served.browser("admin-1"), "/plans/x/launch", "covenant.control.v1.Runs/LaunchRun"
    before, own = told(), token_of(served, browser)
    browser.get("/plans")
    for token, origin in (("", served.address), (own, "https://elsewhere.example")):  # another site's page
        browser.client.post(path, data={"token": token}, headers={"Origin": origin})
    assert told() == before
    refused = browser.client.post(path, data={"token": own}, headers={"Origin": served.address})
    assert (refused.status_code, NO_ROLE in refused.text) == (403, True)
    assert [*told()][len(before) :] == [method]


def test_a_rule_without_a_role_refuses_it(served: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the walk above finds something where every rule in use has all roles."""
    browser = served.browser("privacy-1")
    assert browser.get("/").status_code == 200
    monkeypatch.setitem(RULES, "covenant.control.v1.Runs/ListRuns", Rule(frozenset({Role.AUDITOR})))
    answered = browser.get("/")
    assert answered.status_code == 403
    assert NO_ROLE in answered.text
    assert "Latest runs" not in answered.text
    assert served.browser("auditor-1").get("/").status_code == 200


def test_every_route_but_the_ways_in_leads_strangers_to_the_sign_in(served: Pages) -> None:
    browser = served.browser()
    for route in GUARDED:
        answered = browser.client.request(
            route.method, path_of(route), headers={"Origin": served.address}, follow_redirects=False
        )
        assert answered.status_code == 303, named(route)
        assert answered.headers["location"].startswith("/signin?next="), named(route)


def test_the_ways_in_are_few() -> None:
    assert {named(each) for each in all_routes() if each.needs == ANYBODY} == {
        "GET /signin",
        "POST /signin",
        "GET /signin/link",
        "POST /signin/link",
        "GET /signin/provider",
        "GET /signin/provider/back",
    }


def test_a_route_needs_a_rule_and_no_page_changes_anything() -> None:
    with pytest.raises(CovenantError, match="has no rule"):
        Route("/x", lambda visit: visit.page("x"), "covenant.control.v1.Runs/Nothing")
    with pytest.raises(CovenantError, match="use POST"):
        Route("/x", lambda visit: visit.page("x"), "covenant.control.v1.Runs/StopRun")


def test_nobody_sees_the_log_stream_without_a_session(served: Pages, clock: Shifted) -> None:
    assert served.browser().get("/live").status_code == 401
    browser = served.browser("auditor-1")
    clock.ahead = timedelta(minutes=31)
    try:
        assert browser.get("/live").status_code == 401
    finally:
        clock.ahead = timedelta(0)


@pytest.mark.slow
def test_a_stream_ends_with_its_session(served: Pages) -> None:
    browser = served.browser("auditor-1")
    with browser.client.stream("GET", "/live") as answered:
        lines = answered.iter_lines()
        assert next(lines)
        served.sessions.end_all("auditor-1")
        rest = list(lines)
    assert "privacy" not in "".join(rest)
    assert browser.get("/live").status_code == 401


def test_whoever_is_off_the_list_is_out_at_the_next_click_everywhere(served: Pages) -> None:
    one, other = served.browser("operator-1"), served.browser("operator-1")
    assert one.get("/account").status_code == 200
    served.bank.without("operator-1")
    assert one.get("/account").status_code == 403
    assert not served.sessions.of("operator-1", served.centre.clock())
    assert other.get("/account").url.path == "/signin"


# --- forms ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", FORMS, ids=named)
def test_a_form_that_is_not_this_consoles_own_is_refused(served: Pages, route: Route) -> None:
    browser, other = served.browser("privacy-1"), served.browser("privacy-1")
    own, path = token_of(served, browser), path_of(route)
    origins = [{}, {"Origin": "null"}, {"Origin": "https://elsewhere.example"}]
    origins += [
        {"Origin": served.address.replace("https", "http")},
        {"Origin": f"{served.address}.elsewhere.example"},
        {
            "Origin": served.address.replace("127.0.0.1", "localhost")
        },  # a name of this console, and another origin
    ]
    for headers in origins:
        answered = browser.client.post(path, data={"token": own}, headers=headers, follow_redirects=False)
        assert answered.status_code == 403, headers
        assert "was not sent by a page of this console" in answered.text
    if route.needs == ANYBODY:
        return
    for token in ("", own[:-1], token_of(served, other), "\u00fcber"):
        answered = browser.client.post(
            path, data={"token": token}, headers={"Origin": served.address}, follow_redirects=False
        )
        assert answered.status_code == 403, token
        assert "does not belong to your session" in answered.text or NO_ROLE in answered.text


def test_no_browser_is_told_to_use_tls_only_for_its_own_machine(served: Pages) -> None:
    """`localhost` is every developer's, on every port; a bank's name for its console is nobody else's."""
    port = served.address.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert "strict-transport-security" not in served.browser().get("/signin", Host=host).headers
    named = served.browser().get("/signin", Host="console.bank.example")
    assert named.headers["strict-transport-security"] == "max-age=31536000"


def test_bodies_are_bounded(served: Pages) -> None:
    browser = served.browser("privacy-1")
    origin = {"Origin": served.address}
    large = browser.client.post("/halt", content=b"reason=" + b"x" * (3 << 20), headers=origin)
    many = browser.client.post("/halt", content="&".join(f"f{n}=1" for n in range(300)), headers=origin)
    binary = browser.client.post("/halt", content=b"reason=\xff\xfe", headers=origin)
    assert [each.status_code for each in (large, many, binary)] == [413, 413, 413]
    long = browser.client.get("/halt?" + "&".join(f"f{n}=1" for n in range(300)))
    assert long.status_code == 414


# --- sessions ------------------------------------------------------------------------------------------------------------


def test_a_link_says_whom_it_signs_in(served: Pages) -> None:
    """One that somebody else sends would have its reader work under the sender's name."""
    secret = make_link(served.centre.engine, served.vault, "risk-2", served.centre.clock())
    for _ in range(2):  # to look does not use it up
        assert "as <strong>risk-2</strong>" in served.browser().get(f"{PATH}?key={secret}").text
    assert "risk-2" not in served.browser().get(f"{PATH}?key={secret[:-1]}").text


def test_a_session_that_a_browser_brings_along_is_not_taken_over(served: Pages) -> None:
    """One that an attacker has planted names nobody afterwards, and one of another officer ends."""
    browser = served.browser("risk-1")
    planted = browser.client.cookies[COOKIE]
    secret = make_link(served.centre.engine, served.vault, "privacy-1", served.centre.clock())
    browser.post(PATH, {"link": secret})
    assert browser.client.cookies[COOKIE] != planted
    assert served.sessions.find(planted, served.centre.clock()) is None


def test_the_cookie_is_for_this_host_and_no_script(served: Pages) -> None:
    secret = make_link(served.centre.engine, served.vault, "privacy-1", served.centre.clock())
    browser = served.browser()
    answered = browser.client.post(
        PATH, data={"link": secret}, headers={"Origin": served.address}, follow_redirects=False
    )
    cookie = answered.headers["set-cookie"].lower()
    assert cookie.startswith("__host-covenant=")
    assert all(each in cookie for each in ("; secure", "; httponly", "; path=/", "; samesite=lax"))
    assert "domain" not in cookie


def test_a_session_is_over_after_half_an_hour_without_a_click_and_after_ten_hours_with(
    served: Pages, clock: Shifted
) -> None:
    idle, busy = served.browser("privacy-1"), served.browser("privacy-1")
    try:
        for minutes in range(20, 600, 20):
            clock.ahead = timedelta(minutes=minutes)
            assert busy.get("/account").url.path == "/account", minutes
        assert idle.get("/account").url.path == "/signin"
        clock.ahead = timedelta(minutes=601)
        assert busy.get("/account").url.path == "/signin"
    finally:
        clock.ahead = timedelta(0)


def test_what_a_page_fetches_by_itself_keeps_no_session(served: Pages, clock: Shifted) -> None:
    """A browser that was left open polls all night."""
    browser = served.browser("privacy-1")
    try:
        for minutes in (10, 20, 29):
            clock.ahead = timedelta(minutes=minutes)
            assert browser.get("/", **{"HX-Request": "true"}).status_code == 200, minutes
            with browser.client.stream("GET", "/live") as answered:
                assert answered.status_code == 200, minutes
        clock.ahead = timedelta(minutes=31)
        assert browser.get("/account").url.path == "/signin"
    finally:
        clock.ahead = timedelta(0)


def test_a_sign_in_leads_inside_only(served: Pages) -> None:
    for path in (
        "https://elsewhere.example/",
        "//elsewhere.example",
        "/\\elsewhere.example",
        "\\\\elsewhere.example",
        "/\t/elsewhere.example",
        "/\n/elsewhere.example",
        "/\u2028/elsewhere",
        "javascript:alert(1)",
        "",
        "x",
        "/" + "x" * 2001,
    ):
        assert inside(path) == "/", path
    assert inside("/runs?state=failed&page=2") == "/runs?state=failed&page=2"
    page = served.browser().client.get("/signin", params={"next": "//elsewhere.example"})
    assert "elsewhere" not in page.text


def test_a_disk_that_failed_is_told_to_strangers_without_its_place(served: Pages) -> None:
    entrance = _Entrance(Console.of(served.centre))
    entrance._console.failed = DiskError("/srv/covenant/coordinator.db: no space left on device")
    with pytest.raises(CovenantError, match="its disk failed") as raised:
        entrance._require_disk()
    assert "/srv" not in str(raised.value)


# --- hosts, paths, headers -----------------------------------------------------------------------------------------------


def test_another_host_name_gets_no_page(served: Pages) -> None:
    browser = served.browser("privacy-1")
    for host in ("elsewhere.example", "127.0.0.1", f"elsewhere.example:{served.address.rpartition(':')[2]}"):
        answered = browser.get("/account", Host=host)
        assert answered.status_code == 421
        assert "privacy-1" not in answered.text


def connected(served: Pages, own: str = "127.0.0.1") -> ssl.SSLSocket:
    """A connection from the address `own` that has asked nothing."""
    files = control_files(served.centre.settings, served.centre.clock())
    host, _, port = served.address.removeprefix("https://").partition(":")
    plain = socket.create_connection((host, int(port)), 10, source_address=(own, 0))
    return ssl.create_default_context(cafile=files.ca).wrap_socket(plain, server_hostname=host)


def test_connections_that_ask_nothing_or_slowly_are_cut(
    served: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bounded, "idle_s", 0.3)
    host = served.address.removeprefix("https://")
    begun, whole = f"GET /signin HTTP/1.1\r\nHost: {host}\r\n".encode(), b"\r\n"
    for said in (b"", begun, begun + whole + begun):  # the last: after a whole request, one that does not end
        with connected(served) as waiting:
            waiting.settimeout(4)
            waiting.sendall(said)
            while waiting.recv(65536):
                pass  # until the server cuts it: else this times out


def test_one_address_does_not_take_all_connections(served: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bounded, "most_an_address", 3)
    held = [connected(served) for _ in range(3)]
    with pytest.raises((OSError, httpx.HTTPError)), connected(served) as further:  # noqa: PT012  (either fails)
        further.sendall(b"GET /signin HTTP/1.1\r\n\r\n")
        if not further.recv(1):
            raise ConnectionResetError
    for each in held:
        each.close()


def place_of(answered: httpx.Response) -> object:
    """The browser's end of the connection on which it was answered."""
    assert answered.status_code == 200
    return answered.extensions["network_stream"].get_extra_info("client_addr")


def is_cut(held: ssl.SSLSocket) -> bool:
    """Whether the server has cut a connection; one that it keeps stays silent."""
    held.settimeout(0.5)
    try:
        return held.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_strangers_of_several_addresses_keep_nobody_out(
    served: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where strangers have all their connections, the address with the most gives one up; who is signed in loses none."""
    for each in served.browsers:  # of other tests
        each.client.close()
    browser = served.browser("auditor-1")
    own = place_of(browser.get("/account"))
    monkeypatch.setattr(Bounded, "most_strangers", 5)
    crowd = [
        connected(served, address)
        for address in ("127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.3")
    ]
    late = connected(served, "127.0.0.4")
    assert [is_cut(each) for each in (*crowd, late)] == [False, False, True, False, False, False]
    more = [connected(served, "127.0.0.3") for _ in range(5)]
    assert not is_cut(crowd[0])
    assert sum(is_cut(each) for each in more) < 5
    newcomer = served.browser("risk-1")
    assert newcomer.get("/halt").status_code == 200
    assert place_of(browser.get("/account")) == own  # the connection of before
    for held in (*crowd, late, *more):
        held.close()


def silent(served: Pages, own: str) -> socket.socket:
    """A connection from the address `own` on which no handshake is begun."""
    host, _, port = served.address.removeprefix("https://").partition(":")
    return socket.create_connection((host, int(port)), 10, source_address=(own, 0))


def test_connections_without_a_handshake_are_bounded(served: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a descriptor of the coordinator and a quarter of a mebibyte, before any page's rule is asked."""
    monkeypatch.setattr(Doorstep, "most", 6)
    slow = [silent(served, "127.0.0.3"), silent(served, "127.0.0.3")]
    flood = [silent(served, "127.0.0.2") for _ in range(40)]
    late = connected(served, "127.0.0.4")
    host = served.address.removeprefix("https://")
    late.sendall(f"GET /signin HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert late.recv(15) == b"HTTP/1.1 200 OK"
    for each in flood[:-6]:
        each.settimeout(4)
        assert each.recv(1) == b""  # cut; else this times out
    for each in slow:  # others than the crowd keep theirs
        each.settimeout(0.2)
        with pytest.raises(TimeoutError):
            each.recv(1)
    for each in (*slow, *flood, late):
        each.close()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("", "10.0.0.2", False),
    ],
)
def test_addresses_of_one_holder_are_one(one: str, other: str, same: bool) -> None:
    """Else whoever has a network of IPv6 tries from a new address each time, and is never too often."""
    asked = [
        Request({"type": "http", "client": None if not each else (each, 1), "headers": []})
        for each in (one, other)
    ]
    rates = Rates(lambda: 0.0)
    rates.take(address_of(asked[0]), burst=1, per_minute=1)
    again = pytest.raises(TooOften) if same else nullcontext()
    with again:
        rates.take(address_of(asked[1]), burst=1, per_minute=1)


@pytest.mark.slow
def test_a_stream_goes_on_though_nothing_is_asked(served: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bounded, "idle_s", 0.2)
    browser = served.browser("auditor-1")
    with browser.client.stream("GET", "/live") as answered:
        lines = answered.iter_lines()
        assert next(lines)
        time.sleep(1.5)
        halted = served.browser("author-2").post(
            "/halt", {"scope": "site west", "reason": "a try", "confirmed": "halt"}
        )
        assert "site west is halted" in halted.text
        assert any('"kind": "halted"' in each for each in lines)


def test_evidence_is_not_asked_for_at_any_rate(served: Pages) -> None:
    """Each waits its turn in a thread that other pages need, also the one that halts."""
    browser = served.browser("auditor-1")
    fields = {"token": token_of(served, browser), "kind": "model-card", "form": "pdf"}
    told = [
        browser.client.post("/models/x@1/evidence", data=fields, headers={"Origin": served.address})
        for _ in range(40)
    ]
    assert {each.status_code for each in told} == {400, 429}
    assert served.browser("risk-1").get("/halt").status_code == 200


def raw(served: Pages, target: str) -> str:
    """What a request for exactly this target gets."""
    host, _, port = served.address.removeprefix("https://").partition(":")
    with connected(served) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        told = b""
        while chunk := sock.recv(65536):
            told += chunk
    return told.decode(errors="replace")


@pytest.mark.parametrize(
    "target",
    [
        "/static/0/../app.py",
        "/static/0/..%2f..%2fapp.py",
        "/static/0/%2e%2e/%2e%2e/covenant.yaml",
        "/static/../../../../etc/passwd",
        "/static/0//etc/passwd",
        "/static/0/vendor/../../templates/base.html",
        "/static/0/vendor.json",
        "/../console.key",
        "/drafts/..%2f..%2fconsole.key",
        "/%00",
        "/static/0/%00",
        "/static/0/console.css%00.js",
    ],
)
def test_no_path_reaches_a_file(served: Pages, target: str) -> None:
    told = raw(served, target)
    assert not re.match(r"HTTP/1.1 2", told), told[:200]
    assert "root:" not in told
    assert "content-security-policy" in told.lower()


def test_every_answer_has_every_header(served: Pages) -> None:
    browser, stranger = served.browser("privacy-1"), served.browser()
    css = re.search(r'href="(/static/[^"]+css)"', stranger.get("/signin").text)
    assert css is not None
    answers = [
        *(
            browser.client.get(path_of(each), follow_redirects=False)
            for each in all_routes()
            if each.method == "GET"
        ),
        stranger.client.get("/account", follow_redirects=False),
        browser.get("/nowhere"),
        browser.client.delete("/halt"),
        browser.client.post("/halt"),
        browser.get("/account", Host="elsewhere.example"),
        browser.get(css[1]),
        stranger.get("/live"),
        browser.client.post("/halt", content=b"x" * (3 << 20)),
    ]
    for answered in answers:
        for name, value in HEADERS.items():
            assert answered.headers.get(name) == value, (answered.url, name)
        assert answered.headers["cache-control"] in {"no-store", "public, max-age=31536000, immutable"}
        assert "server" not in answered.headers
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_a_defect_shows_a_number_and_nothing_else(served: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the server")

    browser = served.browser("privacy-1")
    monkeypatch.setattr(Sessions, "of", broken)
    page = browser.get("/account")
    monkeypatch.undo()
    monkeypatch.setattr(Sessions, "find", broken)
    stream = browser.get("/live")
    for answered in (page, stream):
        assert answered.status_code == 500
        assert "a secret" not in answered.text
        assert re.search(r"under [0-9a-f]{8}", answered.text)
        assert answered.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


# --- what is shipped -----------------------------------------------------------------------------------------------------

TEMPLATES = sorted((HOUSE / "templates").glob("**/*.html"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda each: each.name)
def test_templates_need_no_exception_from_the_policy(template: Path) -> None:
    text = template.read_text()
    for what, pattern in {
        "an inline handler": r"<[^>]*\son[a-z]+\s*=",
        "an inline style": r"<[^>]*\sstyle\s*=|<style",
        "an attribute that htmx evaluates": r"hx-on|hx-vals\s*=\s*['\"]?js:|hx-trigger\s*=\s*\"[^\"]*\[|javascript:",
        "an inline script": r"<script(?![^>]*\ssrc=)(?![^>]*type=\"application/json\")",
        "a file of elsewhere": r"(?:src|href|action)\s*=\s*[\"'](?:https?:)?//",
        "data that counts as markup, as translations do": r"\{\{[^}]*\b_\((?![\"'])|=\s*_\((?![\"'])",
        "text that is not escaped": r"\|\s*safe|autoescape\s+false|Markup\(",
    }.items():
        found = re.search(pattern, text, re.IGNORECASE)
        assert found is None, f"{template.name} has {what}: {found and found[0]}"


def test_own_scripts_evaluate_nothing_and_ask_nobody_else() -> None:
    for script in (HOUSE / "static").glob("*.js"):
        text = script.read_text()
        assert not re.search(
            r"\beval\(|new Function|innerHTML|insertAdjacentHTML|document\.write|https?://(?!www\.w3\.org/2000/svg)",
            text,
        ), script.name
    for sheet in (HOUSE / "static").glob("*.css"):
        assert not re.search(r"@import|url\((?!['\"]?data:)", sheet.read_text()), sheet.name


def test_vendored_files_are_as_published_with_their_licences() -> None:
    told = json.loads((HOUSE / "static" / "vendor.json").read_text())
    folder = HOUSE / "static" / "vendor"
    for each in told:
        assert hashlib.sha256((folder / each["file"]).read_bytes()).hexdigest() == each["sha256"], each[
            "file"
        ]
        assert len((folder / each["licence_file"]).read_text()) > 200, each["file"]
    assert {each["file"] for each in told} == {
        each.name for each in folder.iterdir() if each.suffix in {".js", ".css"}
    }


# --- secrets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\uff1d"])
def test_no_text_is_a_formula_in_a_file(first: str) -> None:
    """Names and reasons are others' words, and so may a heading be."""
    text = f"{first}HYPERLINK()"
    table = Table(name="x", caption="x", columns=[Column(text), Column("n")], rows=[[Cell(text), Cell(-1.5)]])
    heading, row = csv.reader(io.StringIO(table.csv, newline=""))
    assert heading[0] == row[0] == f"'{text}"
    assert row[1] == "-1.5"  # a number stays one


@pytest.mark.parametrize("within", [";=", "; =", ';"=', ";+", ";-", ";@", "\n=", "\t=", ";\uff1d"])
def test_no_text_is_a_formula_where_the_semicolon_ends_a_cell(within: str) -> None:
    """As in most of Europe: a spreadsheet there reads the line at its semicolons, whatever is quoted."""
    table = Table(
        name="x",
        caption="x",
        columns=[Column("Why"), Column("n")],
        rows=[[Cell(f"agreed{within}HYPERLINK()"), Cell(1)]],
    )
    cells = [each.strip(' "') for each in re.split(r"[;\t\r\n]", table.csv)]
    assert any(each.startswith("'") for each in cells)
    assert not any(each.startswith(("=", "+", "-", "@", "\uff1d")) for each in cells)


def test_no_secret_of_a_sign_in_is_written_down(
    served: Pages, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not in what the process says, not in the database's file, not in anything in the coordinator's folder."""
    password, wrong = "correct horse battery staple", "typed into the wrong field"
    link = make_link(served.centre.engine, served.vault, "author-1", served.centre.clock())
    browser = served.browser()
    browser.get(f"{PATH}?key={link}")
    browser.post(PATH, {"link": link})
    browser.post(PATH, {"link": link}, on="/signin")
    found = re.search(r"<code>([A-Z2-7 ]{39})</code>", browser.get("/account").text)
    assert found is not None
    secret = found[1].replace(" ", "")
    now = served.centre.clock()
    code = pyotp.TOTP(secret).at(now)
    fields = {"password": password, "again": password, "code": code}
    assert "From now on" in browser.post("/account/setup", fields, on="/account").text
    later = pyotp.TOTP(secret).at(now + timedelta(seconds=30))
    signed = served.browser()
    for typed in ({"officer": wrong}, {"officer": "author-1", "password": wrong}, {"officer": "author-1"}):
        signed.post("/signin", {"password": password, "code": later, **typed}, on="/signin")
    cookies = [each.client.cookies[COOKIE] for each in (browser, signed)]
    out, err = capfd.readouterr()
    told = out + err + caplog.text
    assert "signed in" in told
    home = served.centre.settings.home
    kept = b"".join(each.read_bytes() for each in home.rglob("*") if each.is_file())
    for each in (password, wrong, link, secret, *cookies):
        assert each not in told
        assert each.encode() not in kept
    assert code not in re.findall(r"\b\d{6}\b", told)
    assert later not in re.findall(r"\b\d{6}\b", told)
