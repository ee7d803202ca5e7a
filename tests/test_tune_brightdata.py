"""Pages by Bright Data's SDK, against a server that speaks the Web Unlocker's protocol and fails as it does."""

import gzip

import pytest
from stand_ins.internet import HTML, OUTER, TOKEN, hangs, truncated, unlocking, words

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


def test_a_token_has_to_be_there_and_to_look_like_one(tmp_path, monkeypatch):
    monkeypatch.delenv(brightdata.TOKEN)
    with pytest.raises(UserError, match="BRIGHTDATA_API_TOKEN is not set"):
        pages([at("a")], tmp_path, "")
    monkeypatch.setenv(brightdata.TOKEN, "short")
    with pytest.raises(UserError, match="refuses the token") as e:
        pages([at("a")], tmp_path, "")
    assert "'short'" not in e.value.message
