"""Pages by Bright Data's SDK, against a server that speaks the Web Unlocker's protocol and fails as it does."""

import asyncio
import gzip

import pytest
from stand_ins.internet import HTML, OUTER, TOKEN, cut, hangs, serving, truncated, unlocking, words

from tune.data.page import Failure, Page
from tune.data.sources import brightdata, kept, remote
from tune.data.sources.asking import Ledger
from tune.data.sources.remote import Fetch
from tune.errors import UserError


class Waits(list):
    async def __call__(self, seconds):
        self.append(seconds)


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv(brightdata.TOKEN, TOKEN)


def pages(urls, cache, base, ledger=None, **more):
    more = {"wait": Waits(), **more}
    with brightdata.asking("my_zone", ledger or Ledger(), base_url=base, **more) as ask:
        return list(remote.pages(urls, Fetch("brightdata", cache, ask)))


def at(path):
    return f"https://a.example/{path}"


def test_a_batch_comes_at_once_and_what_was_in_trouble_one_by_one(tmp_path):
    bodies, waits, ledger = [], Waits(), Ledger()

    def answer(url, times):
        if url.endswith("/busy") and times < 3:
            return 429, {**OUTER, "Retry-After": "9"} if times == 2 else OUTER, "rate limited"
        if url.endswith("/bad"):
            return 400, OUTER, f"bad request with Bearer {TOKEN}"
        return 200, {}, words(url)

    urls = [at("ok"), at("busy"), at("bad"), "ftp://a.example/"]
    with unlocking(answer, bodies=bodies) as (base, asked):
        found = pages(urls, tmp_path, base, ledger, wait=waits)
        again = pages(urls[:2], tmp_path, base)
    assert [type(f) for f in found] == [Page, Page, Failure, Failure]
    assert found[2].reason == "HTTP 400: bad request with Bearer ***"
    assert again == found[:2]
    assert (asked[urls[0]], asked[urls[1]], asked[urls[2]]) == (1, 3, 1)
    assert (1 <= waits[0] < 1.25, waits[1:]) == (True, [9.0])
    assert {(b["zone"], b["authorization"]) for b in bodies} == {("my_zone", f"Bearer {TOKEN}")}
    assert (ledger.requests, ledger.billed, ledger.by_brightdata) == (5, 2, True)
    assert found[0].blocks == remote.page(urls[0], words(urls[0]), "web").blocks  # whichever way it came
    assert not any(TOKEN in path.read_text() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("answer", "reason", "times"),
    [
        # Behind an outer 200: the page's own status, and the unlocker's own errors.
        ((404, {}, words("Page not found")), "HTTP 404", 1),
        ((403, {}, words("Guide")), "HTTP 403", 1),
        ((502, {"x-brd-error": "blocked", "x-brd-error-code": "reject_block"}, ""), "HTTP 502 (reject_block)", 4),
        ((429, {"x-brd-error": "slow down", "x-brd-error-code": "sr_rate_limit"}, ""), "HTTP 429 (sr_rate_limit)", 4),
        ((403, {"x-brd-error": "not you", "x-brd-err-code": "policy_1"}, ""), "HTTP 403 (policy_1): not you", 1),
        ((200, {"x-brd-error": "no peer"}, HTML), "HTTP 200: no peer, 4 times", 4),
        ((200, {}, words("Just a moment...")), "a robot check (Just a moment...)", 1),
        ((200, {}, '{"error": "quota exceeded"}'), 'text, not HTML ({"error": "quota exceeded"})', 1),
        ((200, {"Content-Type": "application/json"}, '{"a": 1'), "application/json, not HTML", 1),
        ((200, {}, ""), "an empty answer, 4 times", 4),
        ((200, {}, b"<p>\xff\xfe\xfa</p>"), "its bytes are not utf-8", 1),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(b"<p>" + b"a" * 50_000_000)), "more than 4,000,000", 1),
        ((500, OUTER, "oh"), "HTTP 500: oh, 4 times", 4),
        (truncated, "ClientPayloadError", 4),
        (cut, "ClientPayloadError", 4),
        ((400, OUTER, "no such host: https://a.example/a"), "HTTP 400: no such host", 1),
        (hangs, "TimeoutError: Request timeout after 0.3 seconds, 4 times", 4),
    ],
)  # fmt: skip
def test_a_bad_answer_is_a_failure_with_its_reason_and_is_not_kept(tmp_path, answer, reason, times):
    with unlocking(lambda *_: answer) as (base, asked):
        (found,) = pages([at("a")], tmp_path, base, timeout=0.3 if answer is hangs else 30)
        assert found.reason.startswith(reason)
        assert (asked[at("a")], [*tmp_path.iterdir()]) == (times, [])


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((401, OUTER, f"unknown Bearer {TOKEN}"), 401),
        ((403, OUTER, f"no right: {TOKEN}"), 403),
        ((400, OUTER, "zone 'my_zone' not found"), 400),
        ((407, {"x-brd-error": "wrong zone"}, ""), 407),
    ],
)
def test_a_refused_token_or_zone_ends_the_run_at_once_without_showing_the_token(tmp_path, answer, status):
    with unlocking(lambda url, _: (200, {}, HTML) if url == at(0) else answer) as (base, asked):
        pages([at(0)], tmp_path, base)
        with pytest.raises(UserError, match=rf"the zone my_zone \(HTTP {status}\)") as e:
            pages([at(n) for n in range(40)], tmp_path, base)
    assert TOKEN not in e.value.message
    assert e.value.fix == "mend BRIGHTDATA_API_TOKEN or collect.zone, then tune collect"
    assert max(asked.values()) == 1
    assert sum(asked.values()) <= 1 + brightdata.BATCH
    assert kept.html(tmp_path, at(0)).text == HTML  # what was paid for


def test_an_address_with_the_word_zone_that_is_refused_is_no_refused_zone(tmp_path):
    with unlocking(lambda url, _: (400, OUTER, f"{url} is no address")) as (base, _):
        (found,) = pages(["https://zone.example/zone"], tmp_path, base)
    assert found.reason == "HTTP 400: is no address"


def test_our_requests_are_those_of_the_sdk(tmp_path):
    """Its `scrape_url` beside ours, on one server; it adds only who calls it."""
    from brightdata import BrightDataClient

    async def scrape(base):
        client = BrightDataClient(token=TOKEN, auto_create_zones=False)
        client.engine.BASE_URL = base
        async with client:
            return await client.scrape_url(at("a"), zone="my_zone")

    bodies = []
    with unlocking(lambda url, _: (200, {}, words(url)), bodies=bodies) as (base, _):
        theirs = asyncio.run(scrape(base))
        (ours,) = pages([at("a")], tmp_path, base)
    assert (theirs.success, theirs.data) == (True, words(at("a")))
    assert ours.title == at("a")
    assert bodies[0].pop("sdk_function")
    assert bodies[0] == bodies[1]


def echoes(charset):
    """The token in all that an answer is described with."""

    def answer(handler):
        told = handler.headers["Authorization"].partition(" ")[2]
        handler.send_response(200, told)
        kind = f"text/html; charset={told}" if charset else f"text/{told}"
        for name, value in {"Content-Type": kind, "x-brd-status-code": "200", "x-brd-error-code": told}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(HTML.encode())

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        echoes(charset=True),
        echoes(charset=False),
        truncated,
        cut,
        hangs,
        *((status, OUTER, f"You sent {TOKEN}") for status in (400, 401, 403, 404, 407, 429, 500)),
        *((status, {"x-brd-error": f"not {TOKEN}"}, TOKEN) for status in (200, 403, 407, 429, 502)),
        (429, {**OUTER, "Retry-After": TOKEN}, ""),
        (302, {**OUTER, "Location": f"/{TOKEN}"}, ""),
        (200, {}, words("Guide", TOKEN)),
        (200, {}, words("Just a moment...", TOKEN)),
        (200, {}, f'{{"authorization": "{TOKEN}"'),
    ],
)  # fmt: skip
def test_no_answer_brings_the_token_into_a_message_or_a_file(tmp_path, capfd, caplog, answer):
    """A server that answers with what it was sent."""
    caplog.set_level("DEBUG")
    with unlocking(lambda *_: answer) as (base, _):
        try:
            found = repr(pages([at("a")], tmp_path, base, timeout=0.3 if answer is hangs else 30))
        except UserError as e:
            found = e.message
    said = capfd.readouterr()
    assert found
    assert TOKEN not in found + said.out + said.err + caplog.text
    assert not any(TOKEN.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_the_token_does_not_follow_a_redirect_to_another_host(tmp_path):
    met = []

    def elsewhere(path, body, times):
        return lambda handler: (met.append(str(handler.headers)), handler.send_error(404))

    with serving(elsewhere) as (other, _):
        target = other.replace("127.0.0.1", "localhost")
        with unlocking(lambda *_: (302, {**OUTER, "Location": f"{target}/a"}, "")) as (base, _):
            (found,) = pages([at("a")], tmp_path, base)
    assert found.reason == "the API sent its answer elsewhere"
    assert len(met) == 1
    assert TOKEN not in met[0]


def test_the_token_is_not_shown_where_a_long_answer_is_cut_in_its_middle(tmp_path):
    with unlocking(lambda *_: (400, OUTER, "x" * 185 + TOKEN)) as (base, _):
        (found,) = pages([at("a")], tmp_path, base)
    assert TOKEN[:5] not in found.reason


def test_the_budget_ends_a_run_and_the_next_one_goes_on(tmp_path):
    with unlocking(lambda url, _: (200, {}, words(url))) as (base, asked):
        urls = [at(n) for n in range(25)]
        first = pages(urls, tmp_path, base, ledger := Ledger(budget=13))
        assert [f.url for f in first if isinstance(f, Page)] == urls[:13]
        assert {f.reason for f in first[13:]} == {"not asked: the budget of 13 requests is spent"}
        assert (ledger.requests, ledger.billed) == (13, 13)
        assert all(isinstance(f, Page) for f in pages(urls, tmp_path, base))
        assert set(asked.values()) == {1}


def test_a_second_try_is_not_made_when_the_wait_is_too_long_or_the_budget_is_spent(tmp_path):
    waits = Waits()
    told = {at("late"): {"Retry-After": "999"}, at("busy"): {}, at("more"): {}}
    with unlocking(lambda url, _: (429, {**OUTER, **told[url]}, "")) as (base, asked):
        found = pages([*told], tmp_path, base, Ledger(budget=4), wait=waits)
    assert [one.reason for one in found] == [
        "HTTP 429, and the server asks to wait 999 s",
        "HTTP 429, and the budget of 4 requests is spent",
        "HTTP 429, and the budget of 4 requests is spent",
    ]
    assert (asked.total(), len(waits)) == (4, 1)


def test_a_large_page_comes_whole(tmp_path):
    text = " ".join(f"word{n}" for n in range(100_000))
    with unlocking(lambda *_: (200, {}, words("A", text))) as (base, _):
        (found,) = pages([at("a")], tmp_path, base)
    assert found.blocks[0].text == text


def test_a_token_has_to_be_there_and_to_look_like_one(tmp_path, monkeypatch):
    monkeypatch.delenv(brightdata.TOKEN)
    with pytest.raises(UserError, match="BRIGHTDATA_API_TOKEN is not set"):
        pages([at("a")], tmp_path, "")
    for wrong, what in (("short", "the Bright Data SDK refuses the token"), (f"{TOKEN}\nshort", "is no token")):
        monkeypatch.setenv(brightdata.TOKEN, wrong)
        with pytest.raises(UserError, match=what) as e:
            pages([at("a")], tmp_path, "")
        assert not {"'short'", TOKEN} & {*e.value.message.split()}


def test_credentials_of_netrc_beside_the_token_are_a_failure_without_trying_again(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login me password secret-0123456789\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    waits = Waits()
    with unlocking(lambda url, _: (200, {}, words(url))) as (base, asked):
        (found,) = pages([at("a")], tmp_path / "cache", base, wait=waits)
    assert (found.reason[:11], "secret" in found.reason, asked.total(), waits) == ("ValueError:", False, 0, [])
