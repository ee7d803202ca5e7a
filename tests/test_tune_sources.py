import json
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tune.data.block import Admonition, Code, Item, List, Prose, Table, sections
from tune.data.page import Failure, Page
from tune.data.sources import brightdata, folder, stdlib, web
from tune.errors import UserError

DATA = Path(__file__).parent / "data" / "sphinx"
HTML = "<html><head><title>T</title></head><body><main><h1>Title</h1><p>Some text of use.</p></main></body></html>"


def always(path, body, times):
    return 200, {}, HTML


@contextmanager
def server(answer):
    """A loopback server. `answer(path, body, times)` gives status, headers, text or bytes; `times` counts the asks."""
    asked = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(self.path, {})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply(self.path, {**body, "authorization": self.headers["Authorization"]})

        def reply(self, path, body):
            key = body.get("url", path)
            asked[key] += 1
            status, headers, text = answer(path, body, asked[key])
            self.send_response(status)
            for name, value in {"Content-Type": "text/html", **headers}.items():
                self.send_header(name, value)
            data = text if isinstance(text, bytes) else text.encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}", asked
        finally:
            running.shutdown()
            thread.join()


def test_stdlib_gives_docstrings_signatures_and_examples():
    pages = {p.id: p for p in stdlib.pages(["heapq", "fractions"], topics=False)}
    assert set(pages) == {"stdlib:heapq", "stdlib:fractions", "stdlib:fractions.Fraction"}
    by_title = {s.title: s for s in sections(pages["stdlib:heapq"].blocks)}
    assert by_title["heapq.merge"].code[0] == "heapq.merge(*iterables, key=None, reverse=False)"
    assert ">>> list(merge(['dog', 'horse'], ['cat', 'fish', 'kangaroo'], key=len))" in by_title["heapq.merge"].code[2]
    assert "`nlargest`" in by_title["Names in heapq"].blocks[0].text
    assert pages["stdlib:heapq"].licence == "PSF-2.0"


def test_stdlib_takes_nothing_that_another_module_defines():
    """secrets re-exports random's choice; collections has abc; neither may come in through the neighbour."""
    pages = stdlib.pages(["secrets", "collections", "os.path"], topics=False)
    titles = {heading for page in pages for block in page.blocks for heading in block.headings}
    assert "secrets.token_hex" in titles
    assert "os.path.exists" in titles  # defined in genericpath, which is os.path's own
    assert "secrets.choice" not in titles
    assert not any(t.startswith("collections.abc") for t in titles)
    assert not any(p.module not in {"secrets"} for p in stdlib.pages(["secrets"], topics=False))


def test_stdlib_topics_are_pages_with_headings():
    pages = {p.id: p for p in stdlib.pages([], topics=True)}
    assert len(pages) > 70
    assert {p.module for p in pages.values()} == {"topics"}
    parts = sections(pages["topics:compound"].blocks)
    assert [s.title for s in parts][:2] == ["Compound statements", 'The "if" statement']
    assert parts[1].headings[0] == "Compound statements"
    assert parts[1].code[0].startswith("if_stmt ::= ")


def test_stdlib_names_every_unknown_module_before_the_first_page():
    with pytest.raises(UserError) as e:
        next(stdlib.pages(["heapq", "heapqq", "numpy", "antigravity", "this"], topics=False))
    assert "heapqq: not a standard-library module that can be documented; did you mean heapq?" in e.value.why
    assert all(name in e.value.why for name in ("numpy", "antigravity", "this"))


def test_stdlib_pages_hold_no_addresses():
    text = "\n".join(p.text for p in stdlib.pages(["logging", "unittest", "threading", "enum"], topics=False))
    assert len(text) > 50_000
    assert " at 0x" not in text


def test_sphinx_keeps_headings_signatures_and_code_and_drops_navigation():
    found = {p.id: p for p in folder.pages(DATA, "sphinx")}
    assert set(found) == {f"sphinx:{n}.html" for n in ("blank", "tutorial", "library/shelf", "library/shelf-tips")}
    page = found["sphinx:library/shelf.html"]
    top, put, notes = (page.title,), (page.title, "shelf.put"), (page.title, "Notes on wood")
    assert page.blocks == (
        Prose(headings=top, text="This module puts things on shelves, and takes them down again."),
        Admonition(headings=top, title="Note", text="Shelves are short."),
        Code(headings=put, language="python", text="shelf.put(thing, *, level=3)"),
        Prose(headings=put, text="Put thing on the shelf at level."),
        Code(headings=put, language="python", text=">>> sorted([3, 1])\n[1, 3]\n>>> 2 + 2\n5"),
        List(headings=notes, items=(Item(0, "-", "Oak is heavy."), Item(0, "-", "Pine is `light`."))),
        Table(headings=notes, rows=(("Wood", "Weight"), ("oak", "700"))),
        Code(headings=notes, language="shell", text="# a comment, not a heading\nshelf --oak"),
    )
    assert (page.title, page.module, page.licence) == (
        "shelf — Things on shelves",
        "shelf",
        "Example Licence Version 2",
    )


def test_sphinx_modules_group_siblings_and_are_not_taken_from_headings():
    found = {p.id: p for p in folder.pages(DATA, "sphinx")}
    assert found["sphinx:library/shelf-tips.html"].module == "shelf"
    assert found["sphinx:tutorial.html"].module == "top"  # id="module-objects" there is the heading "Module objects"
    assert isinstance(found["sphinx:blank.html"], Failure)


def test_a_page_nested_too_deeply_is_a_failure_of_that_page(tmp_path):
    (tmp_path / "deep.html").write_text("<body>" + "<div>" * 5000 + "Text." + "</div>" * 5000 + "</body>")
    (tmp_path / "plain.html").write_text("<body><h1>A</h1><p>Words.</p></body>")
    failure, page = folder.pages(tmp_path, "sphinx")
    assert failure == Failure(id="sphinx:deep.html", reason="nested too deeply")
    assert page.id == "sphinx:plain.html"


def test_sphinx_refuses_a_folder_without_pages(tmp_path):
    with pytest.raises(UserError, match="holds no HTML"):
        list(folder.pages(tmp_path))
    with pytest.raises(UserError, match="there is no folder"):
        list(folder.pages(tmp_path / "nowhere"))


def test_web_retries_as_the_server_asks_lists_failures_and_remembers(tmp_path):
    def answer(path, body, times):
        if path == "/busy" and times < 3:
            return 429, {"Retry-After": "7"}, "slow down"
        if path == "/flaky" and times == 1:
            return 503, {}, ""
        if path == "/gone":
            return 404, {}, "no"
        if path == "/never":
            return 429, {"Retry-After": "86400"}, ""
        if path == "/pdf":
            return 200, {"Content-Type": "application/pdf"}, "%PDF"
        if path == "/down":
            return 500, {}, ""
        return 200, {}, HTML

    waits = []
    with server(answer) as (base, asked):
        paths = ["/ok", "/busy", "/flaky", "/gone", "/never", "/pdf", "/down"]
        urls = [base + path for path in paths] + ["file:///etc/passwd", "http://user:secret@127.0.0.1/"]
        found = list(web.pages(urls, tmp_path, wait=waits.append))
        assert [isinstance(f, Page) for f in found] == [True, True, True, False, False, False, False, False, False]
        reasons = [f.reason for f in found if isinstance(f, Failure)]
        assert reasons[0] == "HTTP 404"
        assert reasons[1] == "HTTP 429, and the server asks to wait 86400 s"
        assert reasons[2] == "application/pdf, not HTML"
        assert reasons[3] == "HTTP 500, 4 times"
        assert "http or https" in reasons[4]
        assert waits[:2] == [7.0, 7.0]
        assert 1 <= waits[2] < 1.5
        assert [round(w, 3) >= 2**i for i, w in enumerate(waits[3:])] == [True] * 3
        assert asked["/busy"] == 3

        again = list(web.pages(urls[:4], tmp_path, wait=waits.append))
        assert again[:3] == found[:3]
        assert (asked["/ok"], asked["/busy"], asked["/gone"]) == (1, 3, 2)
    assert found[0].title == "Title"
    assert found[0].url == urls[0]


def test_the_charset_is_the_server_s_and_bytes_that_are_not_in_it_are_a_failure(tmp_path):
    page = "<meta charset=utf-8><body><h1>Größe</h1><p>Für alle Bäume.</p>".encode("latin-1")

    def answer(path, body, times):
        return 200, {"Content-Type": "text/html; charset=ISO-8859-1"} if path == "/said" else {}, page

    with server(answer) as (base, _):
        found, failure = web.pages([base + "/said", base + "/unsaid"], tmp_path)
    assert (found.title, found.blocks[0].text) == ("Größe", "Für alle Bäume.")
    assert failure.reason.startswith("its bytes are not utf-8")
    assert len(list(tmp_path.iterdir())) == 1  # what could not be read is asked for again


@pytest.mark.parametrize("charset", ["iso-8859-1", "shift_jis", "utf-8", ""])
def test_a_page_is_read_in_the_charset_that_the_server_names(tmp_path, charset):
    words = "棚の上" if charset == "shift_jis" else "Café für alle"

    def answer(path, body, times):
        kind = f"text/html; charset={charset}" if charset else "text/html"
        return 200, {"Content-Type": kind}, f"<body><h1>A</h1><p>{words}</p></body>".encode(charset or "utf-8")

    with server(answer) as (base, _):
        (found,) = web.pages([base + "/a"], tmp_path)
    assert found.text == f"# A\n\n{words}"


def test_web_asks_again_when_a_kept_answer_is_half_written(tmp_path):
    with server(always) as (base, asked):
        list(web.pages([base + "/a"], tmp_path))
        (kept,) = tmp_path.iterdir()
        kept.write_text(kept.read_text()[:40])
        (found,) = web.pages([base + "/a"], tmp_path)
    assert isinstance(found, Page)
    assert asked["/a"] == 2


def test_retry_after_may_be_a_date():
    assert web.pause(0, "Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert web.pause(0, "Wed, 21 Oct 2099 07:28:00 GMT") > 1e6
    assert 4 <= web.pause(2, "soon") <= 5


def test_a_connection_that_is_refused_is_a_failure_of_that_page(tmp_path):
    with server(always) as (base, _):
        pass
    waits = []
    (found,) = web.pages([base + "/a"], tmp_path, wait=waits.append)
    assert isinstance(found, Failure)
    assert "ConnectError" in found.reason
    assert len(waits) == 3


TOKEN = "sample-token-0123456789"


def test_brightdata_gets_html_retries_429_and_reports_the_rest(tmp_path, monkeypatch):
    bodies = []

    def answer(path, body, times):
        assert path == "/request"  # no zone is looked up, none is made
        bodies.append(body)
        if body["url"].endswith("/busy") and times < 3:
            return 429, {}, "rate limited"
        if body["url"].endswith("/bad"):
            return 400, {}, f"bad request with {body['authorization']}"
        return 200, {}, HTML

    monkeypatch.setenv(brightdata.TOKEN, TOKEN)
    waits = []
    urls = ["https://a.example/ok", "https://a.example/busy", "https://a.example/bad", "ftp://a.example/"]
    with server(answer) as (base, asked):
        found = list(brightdata.pages(urls, "my_zone", tmp_path, base_url=base, wait=waits.append))
        again = list(brightdata.pages(urls[:2], "my_zone", tmp_path, base_url=base, wait=waits.append))
    assert [type(f) for f in found] == [Page, Page, Failure, Failure]
    assert found[2].reason == "API returned status 400: bad request with Bearer ***"
    assert again == found[:2]
    assert (asked[urls[0]], asked[urls[1]], asked[urls[2]]) == (1, 3, 1)
    assert [int(w) for w in waits] == [1, 2]
    assert {(b["zone"], b["authorization"]) for b in bodies} == {("my_zone", f"Bearer {TOKEN}")}
    assert found[0].blocks == web.page(urls[0], HTML, "web").blocks  # the same blocks, whichever source fetched it
    assert not any(TOKEN in path.read_text() for path in tmp_path.iterdir())


def test_brightdata_stops_at_a_refused_token_without_showing_it(tmp_path, monkeypatch):
    def answer(path, body, times):
        return (200, {}, HTML) if body["url"].endswith("/0") else (401, {}, f"unknown {body['authorization']}")

    monkeypatch.setenv(brightdata.TOKEN, TOKEN)
    urls = [f"https://a.example/{i}" for i in range(2)]
    with server(answer) as (base, asked), pytest.raises(UserError, match="HTTP 401") as e:
        list(brightdata.pages(urls, "my_zone", tmp_path, base_url=base, wait=[].append))
    assert TOKEN not in str(e.value.message)
    assert sum(asked.values()) == 2  # not asked again
    assert web.cached(tmp_path, urls[0]) == HTML  # what was paid for is kept


def test_brightdata_needs_its_token(tmp_path, monkeypatch):
    monkeypatch.delenv(brightdata.TOKEN, raising=False)
    with pytest.raises(UserError, match="BRIGHTDATA_API_TOKEN is not set"):
        list(brightdata.pages(["https://a.example/"], "my_zone", tmp_path))


def test_the_path_of_this_interpreter_is_in_no_page():
    found = list(stdlib.pages(["platform"], topics=False))
    assert "platform.architecture" in found[0].text
    assert not [p.id for p in found if sys.executable in p.text]
