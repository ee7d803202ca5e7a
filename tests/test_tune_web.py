"""Pages by httpx, over a real socket that also fails."""

import asyncio
import gzip
import threading

import pytest
from stand_ins.internet import HTML, cut, drips, hangs, serving, truncated, words

from tune.data.page import Failure, Page
from tune.data.sources import asking, kept, remote, web
from tune.data.sources.asking import Ledger
from tune.data.sources.remote import Fetch, Twin
from tune.errors import UserError


class Waits(list):
    async def __call__(self, seconds):
        self.append(seconds)


def pages(urls, cache, ledger=None, **more):
    with web.asking(ledger or Ledger(), **{"wait": Waits(), **more}) as ask:
        return list(remote.pages(urls, Fetch("web", cache, ask)))


def always(path, body, times):
    return 200, {}, words(path)


def test_trouble_is_tried_again_as_the_server_asks_and_what_came_is_kept(tmp_path):
    def answer(path, body, times):
        if path == "/busy" and times < 3:
            return 429, {"Retry-After": "7"}, "slow down"
        if path == "/flaky" and times == 1:
            return 503, {}, ""
        return {
            "/gone": (404, {}, "no"),
            "/never": (429, {"Retry-After": "86400"}, ""),
            "/pdf": (200, {"Content-Type": "application/pdf"}, "%PDF"),
            "/down": (500, {}, ""),
            "/refused": (401, {}, ""),
        }.get(path, (200, {}, words(path)))

    waits = Waits()
    with serving(answer) as (base, asked):
        paths = ["/ok", "/busy", "/flaky", "/gone", "/never", "/pdf", "/down", "/refused"]
        urls = [base + path for path in paths] + [
            "file:///etc/passwd",
            "http://user:secret@127.0.0.1/",
            "http://[::1",
            "http://a\x01b/",
        ]
        found = pages(urls, tmp_path, wait=waits)
        assert [f.url if isinstance(f, Page) else f.reason for f in found] == [
            *urls[:3],
            "HTTP 404",
            "HTTP 429, and the server asks to wait 86400 s",
            "application/pdf, not HTML",
            "HTTP 500, 4 times",
            "HTTP 401",
            *["not an http or https URL without a user name"] * 3,
            "no address that can be asked: Invalid non-printable ASCII character in URL, '\\x01' at position 8.",
        ]
        own = sorted(w for w in waits if w != 7.0)
        assert waits.count(7.0) == 2
        assert [n <= w < n * 1.25 for n, w in zip([1, 1, 2, 4], own, strict=True)] == [True] * 4
        assert (asked["/ok"], asked["/busy"], asked["/down"], asked["/refused"]) == (1, 3, 4, 1)
        again = pages(urls[:4], tmp_path)
        assert again[:3] == found[:3]
        assert (asked["/ok"], asked["/busy"], asked["/gone"]) == (1, 3, 2)
    assert (found[0].id, found[0].source, found[0].title) == (f"web:{urls[0]}", "web", "/ok")


def test_the_order_is_that_of_the_urls_and_a_few_are_asked_for_at_once(tmp_path):
    here, lock, barrier = [0, 0], threading.Lock(), threading.Barrier(web.AT_ONCE)

    def answer(path, body, times):
        with lock:
            here[0] += 1
            here[1] = max(here)
        if int(path[1:]) < 2 * web.AT_ONCE:
            barrier.wait(20)  # nobody is answered before all of them are there
        with lock:
            here[0] -= 1
        return 200, {}, words(path)

    with serving(answer) as (base, asked):
        urls = [f"{base}/{n}" for n in range(50)]
        found = pages(urls, tmp_path)
    assert [page.url for page in found] == urls
    assert here[1] == web.AT_ONCE
    assert set(asked.values()) == {1}


def test_nobody_asks_a_host_while_one_waits_as_it_asked_and_they_wait_once(tmp_path):
    barrier, during = threading.Barrier(web.AT_ONCE), []

    def answer(path, body, times):
        if times == 1 and int(path[1:]) < web.AT_ONCE:
            barrier.wait(20)  # all of them are told
            return 429, {"Retry-After": "5"}, ""
        return 200, {}, words(path)

    with serving(answer) as (base, asked):

        async def wait(seconds):
            before = sum(asked.values())
            await asyncio.sleep(0.2)  # in which the others would ask for all that is left
            during.append((seconds, before, sum(asked.values())))

        found = pages([f"{base}/{n}" for n in range(40)], tmp_path, wait=wait)
    assert during == [(5.0, web.AT_ONCE, web.AT_ONCE)]
    assert all(isinstance(f, Page) for f in found)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (hangs, "no answer in time, 4 times"),
        (drips, "no whole answer in 0.3 s, 4 times"),
        (truncated, "RemoteProtocolError: peer closed connection without sending complete message body"),
        (cut, "RemoteProtocolError: peer closed connection without sending complete message body"),
        ((403, {}, words("Forbidden")), "HTTP 403"),
        ((200, {}, words("A", "a" * 10_000_000)), "more than 4,000,000 bytes"),
        ((200, {}, b"<p>a\xed\xa0\x80b</p>"), "its bytes are not utf-8"),  # a lone surrogate
        ((200, {"Content-Type": "text/plain"}, "words"), "text/plain, not HTML"),
        ((200, {}, b"a" * 50_000_000), "more than 4,000,000 bytes"),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(b"<p>" + b"a" * 50_000_000)), "more than 4,000,000 bytes"),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(HTML.encode())[:-9]), "its gzip ends in the middle"),
        ((200, {"Content-Encoding": "gzip"}, HTML), "not gzip, though it says so"),
        ((200, {"Content-Encoding": "br"}, HTML), "compressed as br, which was not asked for"),
        ((200, {}, ""), "an empty answer"),
        ((200, {}, "{}"), "text, not HTML ({})"),
        ((302, {"Location": "gopher://a.example/"}, ""), "a redirect to gopher://a.example/, which is elsewhere"),
        ((302, {}, ""), "HTTP 302"),
    ],
)  # fmt: skip
def test_a_bad_answer_is_a_failure_of_that_page_with_its_reason_and_is_not_kept(tmp_path, fault, reason):
    def answer(path, body, times):
        return fault if path == "/bad" else (200, {}, words(path))

    with serving(answer) as (base, _):
        limits = {hangs: {"timeout": 0.2}, drips: {"whole": 0.3}}.get(fault, {}) if callable(fault) else {}
        (bad,) = pages([base + "/bad"], tmp_path, **limits)
        (page,) = pages([base + "/good"], tmp_path)
    assert isinstance(page, Page)
    assert bad.reason.startswith(reason)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_bomb_is_noticed_before_it_is_unpacked():
    body = asking.Body({"content-encoding": "gzip"}, 1000)
    with pytest.raises(asking.FetchError, match="more than 1,000 bytes"):
        body.add(gzip.compress(bytes(100_000_000)))
    assert len(body.data) == 1001


def test_redirects_are_followed_and_loops_are_failures(tmp_path):
    def answer(path, body, times):
        to = {"/old": "/new#part", "/loop": "/loop2", "/loop2": "/loop", "/self": "/self"}.get(path)
        if path.startswith("/far"):
            to = f"/far{int(path[4:]) + 1}"
        return (301, {"Location": to}, "") if to else (200, {}, words(path))

    with serving(answer) as (base, asked):
        old, loop, self, far = pages([base + p for p in ("/old", "/loop", "/self", "/far0")], tmp_path)
    assert (old.title, old.url) == ("/new", base + "/old")
    assert loop.reason == f"a redirect loop at {base}/loop"
    assert self.reason == f"a redirect loop at {base}/self"
    assert far.reason == "more than 10 redirects"
    assert (asked["/loop"], asked["/self"]) == (1, 1)  # a loop is not tried again


def test_the_budget_ends_a_run_and_the_next_one_goes_on(tmp_path):
    with serving(always) as (base, asked):
        urls = [f"{base}/{n}" for n in range(7)]
        first = pages(urls, tmp_path, ledger := Ledger(budget=5))
        reasons = {f.reason for f in first if isinstance(f, Failure)}
        assert reasons == {"not asked: the budget of 5 requests is spent"}
        assert (ledger.requests, sum(asked.values())) == (5, 5)
        assert all(isinstance(f, Page) for f in pages(urls, tmp_path, Ledger(budget=5)))
        assert set(asked.values()) == {1}


def test_trouble_is_not_tried_again_when_the_budget_is_spent(tmp_path):
    waits = Waits()
    with serving(lambda *_: (503, {}, "")) as (base, asked):
        (found,) = pages([base + "/a"], tmp_path, Ledger(budget=2), wait=waits)
    assert found.reason == "HTTP 503, and the budget of 2 requests is spent"
    assert (asked["/a"], len(waits)) == (2, 1)


def test_what_was_received_is_counted(tmp_path):
    with serving(lambda *_: (200, {"Content-Encoding": "gzip"}, gzip.compress(HTML.encode()))) as (base, _):
        pages([base + "/a"], tmp_path, ledger := Ledger())
    assert (ledger.requests, ledger.received, ledger.billed) == (1, len(gzip.compress(HTML.encode())), 0)


def test_one_of_two_pages_that_are_the_same_stays(tmp_path):
    link = "<link rel=canonical href='{}'>"

    def answer(path, body, times):
        return {
            "/b": (200, {}, words("A")),
            "/a": (200, {}, words("A")),
            "/c?print": (200, {}, words("C", "Printed.", link.format("/c#top"))),
            "/c": (200, {}, words("C", "Shown.")),
            "/moved": (302, {"Location": "/d"}, ""),
            "/d": (200, {}, words("D", f"Today is {times}.")),
            "/e": (200, {}, words("E", "One.", link.format("/"))),  # a site whose every page names the front page
            "/f": (200, {}, words("F", "Another.", link.format("/"))),
            "/h": (200, {}, words("Docs", "One.", link.format("/"))),  # and whose titles are all one
            "/i": (200, {}, words("Docs", "Another.", link.format("/"))),
            "/g": (200, {}, words("G", "Third.", link.format("http://[broken"))),
        }[path]

    with serving(answer) as (base, _):
        paths = ["/a", "/b", "/c?print", "/c", "/moved", "/d", "/e", "/f", "/g", "/h", "/i"]
        found = pages([base + p for p in paths], tmp_path)
    twins = {f.id.removeprefix(f"web:{base}"): f.reason.removeprefix("the same as " + base)
             for f in found if isinstance(f, Twin)}  # fmt: skip
    assert twins == {"/b": "/a", "/c": "/c?print", "/d": "/moved"}
    assert sum(isinstance(f, Page) for f in found) == 8


def test_a_robot_check_is_neither_kept_nor_believed_when_an_older_version_kept_it(tmp_path):
    wall = words("Just a moment...", "Verify you are human by completing the action below.")
    with serving(lambda *asked: (200, {}, wall if asked[2] == 1 else words("Guide"))) as (base, asked):
        url = base + "/a"
        (failure,) = pages([url], tmp_path)
        assert failure.reason == "a robot check (Just a moment...)"
        assert not list(tmp_path.iterdir())
        kept.keep_html(tmp_path, url, wall)
        (page,) = pages([url], tmp_path)
        assert (page.title, asked["/a"]) == ("Guide", 2)


def test_the_charset_is_the_server_s_and_bytes_that_are_not_in_it_are_a_failure(tmp_path):
    page = "<meta charset=utf-8><body><h1>Größe</h1><p>Für alle Bäume.</p>".encode("latin-1")

    def answer(path, body, times):
        return 200, {"Content-Type": "text/html; charset=ISO-8859-1"} if path == "/said" else {}, page

    with serving(answer) as (base, _):
        found, failure = pages([base + "/said", base + "/unsaid"], tmp_path)
    assert (found.title, found.blocks[0].text) == ("Größe", "Für alle Bäume.")
    assert failure.reason.startswith("its bytes are not utf-8")
    assert len(list(tmp_path.iterdir())) == 1  # what could not be read is asked for again


@pytest.mark.parametrize("charset", ["iso-8859-1", "shift_jis", "utf-8", ""])
def test_a_page_is_read_in_the_charset_that_the_server_names(tmp_path, charset):
    said = "棚の上" if charset == "shift_jis" else "Café für alle"

    def answer(path, body, times):
        kind = f"text/html; charset={charset}" if charset else "text/html"
        return 200, {"Content-Type": kind}, f"<body><h1>A</h1><p>{said}</p></body>".encode(charset or "utf-8")

    with serving(answer) as (base, _):
        (found,) = pages([base + "/a"], tmp_path)
    assert found.text == f"# A\n\n{said}"


def test_a_kept_answer_that_is_half_written_is_asked_for_again(tmp_path):
    with serving(always) as (base, asked):
        pages([base + "/a"], tmp_path)
        (path,) = tmp_path.iterdir()
        path.write_text(path.read_text()[:40])
        (found,) = pages([base + "/a"], tmp_path)
    assert isinstance(found, Page)
    assert asked["/a"] == 2


def test_a_full_disk_is_told_and_what_was_kept_stays_whole(tmp_path):
    with serving(always) as (base, asked):
        before = pages([base + "/a"], tmp_path)
        slot = kept._slot(tmp_path, base + "/b")
        slot.with_name(slot.name + ".part").symlink_to("/dev/full")
        with pytest.raises(UserError, match="a page cannot be kept") as e:
            pages([base + "/a", base + "/b"], tmp_path)
        assert "No space left" in e.value.why
        assert len(list(tmp_path.iterdir())) == 1  # neither half of it, nor the rest of trying
        assert pages([base + "/a", base + "/b"], tmp_path)[0] == before[0]
        assert (asked["/a"], asked["/b"]) == (1, 2)


def test_a_connection_that_is_refused_is_a_failure_of_that_page(tmp_path):
    with serving(always) as (base, _):
        pass
    waits = Waits()
    (found,) = pages([base + "/a"], tmp_path, wait=waits)
    assert isinstance(found, Failure)
    assert "ConnectError" in found.reason
    assert len(waits) == 3


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_a_large_page_comes_whole(tmp_path, coding):
    text = " ".join(f"word{n}" for n in range(100_000))  # a million bytes: many reads of a socket
    data = words("A", text).encode()

    def answer(path, body, times):
        return (200, {"Content-Encoding": "gzip"}, gzip.compress(data)) if coding else (200, {}, data)

    with serving(answer) as (base, _):
        (found,) = pages([base + "/a"], tmp_path)
    assert found.blocks[0].text == text


def test_turns_that_are_waited_for_at_once_lie_apart_too():
    waits, ledger = Waits(), Ledger(delay=5.0, clock=lambda: 100.0)

    async def all_at_once():
        await asyncio.gather(*(ledger.take(waits) for _ in range(4)))

    asyncio.run(all_at_once())
    assert waits == [5.0, 10.0, 15.0]


def test_retry_after_may_be_a_date():
    assert asking.pause(0, "Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert asking.pause(0, "Wed, 21 Oct 2099 07:28:00 GMT") > 1e6
    assert 4 <= asking.pause(2, "soon") <= 5
    assert asking.pause(0, "nan") == 0.0
