"""Pages of a site that is only named: by sitemaps, Sphinx's inventory or links, over a real socket that also fails."""

import gzip
import os
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins.internet import OUTER, TOKEN, serving, unlocking, words

from tune.data.page import Failure, Page
from tune.data.sources import address, brightdata, inventory, kept, remote, site, sitemap, web
from tune.data.sources.asking import Ledger
from tune.data.sources.remote import Fetch
from tune.errors import UserError


async def unhurried(seconds):
    """No wait."""


def found(start, cache, most=1000):
    with web.asking(Ledger(), within=address.under(start), wait=unhurried) as ask:
        urls, how = site.find(start, most, Fetch("web", cache, ask))
    host = "/".join(start.split("/")[:3])
    return [url.removeprefix(host) for url in urls], how.replace(host, "")


def collected(start, cache, most=1000):
    with web.asking(Ledger(), within=address.under(start), wait=unhurried) as ask:
        fetch = Fetch("web", cache, ask)
        urls, how = site.find(start, most, fetch)
        return list(remote.pages(urls, fetch)), how


def files(told):
    """A website of these files; {base} in a text is its address. What is not there is a 404."""

    def answer(path, body, times):
        made = told.get(path)
        if made is None:
            return 404, {}, words("Page not found")
        return made if isinstance(made, tuple) else (200, {}, made)

    return serving(answer)


def urlset(*urls, inside="url", root="urlset"):
    locs = "".join(f"<{inside}><loc> {url} </loc><lastmod>2026-01-01</lastmod></{inside}>" for url in urls)
    return f'<?xml version="1.0"?><{root} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{locs}</{root}>'


def index(*urls):
    return urlset(*urls, inside="sitemap", root="sitemapindex")


def objects(*lines, version=2):
    head = f"# Sphinx inventory version {version}\n# Project: a\n# Version: 1\n# The rest is compressed using zlib.\n"
    return head.encode() + zlib.compress("\n".join(lines).encode())


def test_sitemaps_that_robots_names_nested_and_zipped(tmp_path):
    told = {}
    with files(told) as (base, asked):
        told["/robots.txt"] = (
            f"User-agent: *\nDisallow: /docs/private/\nDisallow: /*?print=\nSitemap: {base}/maps.xml\n"
        )
        told["/maps.xml"] = index(f"{base}/one.xml.gz", f"{base}/two.xml", "https://elsewhere.example/three.xml")
        told["/one.xml.gz"] = gzip.compress(
            urlset(f"{base}/docs/b", f"{base}/docs/a?v=1&amp;w=2#part", f"{base}/docs/b", f"{base}/blog/x").encode()
        )
        told["/two.xml"] = urlset(
            f"{base}/docs/c", f"{base}/docs/private/d", f"{base}/docs/c?print=1", f"{base}/docs/../etc"
        )
        urls, how = found(f"{base}/docs/", tmp_path)
        assert urls == ["/docs/b", "/docs/a?v=1&w=2", "/docs/c"]
        assert how == "site: 3 URLs by 3 sitemaps, 2 disallowed by robots.txt, 2 elsewhere"
        assert "/sitemap.xml" not in asked
        assert set(asked.values()) == {1}
        assert found(f"{base}/docs/", tmp_path) == (urls, how)
        assert set(asked.values()) == {1}  # nothing is asked for again: what is kept holds


def test_a_kept_robots_txt_is_believed_for_a_day(tmp_path):
    told = {"/robots.txt": "", "/docs/": words("Docs", body="<a href=a>A</a>"), "/docs/a": words("A")}
    with files(told) as (base, asked):
        found(f"{base}/docs/", tmp_path)
        told["/robots.txt"] = "User-agent: *\nDisallow: /docs/a"
        assert found(f"{base}/docs/", tmp_path)[0] == ["/docs/", "/docs/a"]
        slot = kept._slot(tmp_path, f"{base}/robots.txt")
        os.utime(slot, times=(0, slot.stat().st_mtime - site.BELIEVED - 60))
        assert found(f"{base}/docs/", tmp_path)[0] == ["/docs/"]
    assert (asked["/robots.txt"], asked["/docs/"]) == (2, 1)


def test_a_redirect_leads_to_nothing_that_robots_disallows(tmp_path):
    told = {"/robots.txt": "User-agent: *\nDisallow: /docs/private/", "/docs/": words("Docs", body="<a href=a>A</a>")}
    told["/docs/a"] = (302, {"Location": "/docs/private/b"}, "")
    with files(told) as (base, asked), web.asking(ledger := Ledger(), within=address.under(f"{base}/docs/")) as ask:
        fetch = Fetch("web", tmp_path, ask, ledger=ledger)
        urls, _ = site.find(f"{base}/docs/", 10, fetch)
        found = list(remote.pages(urls, fetch))
        assert found[1].reason == f"a redirect to {base}/docs/private/b, which robots.txt disallows"
    assert "/docs/private/b" not in asked


@pytest.mark.parametrize(
    ("robots", "delay", "told"),
    [
        ("User-agent: *\nCrawl-delay: 7.5", 7.5, "7.5 s between requests, as robots.txt asks"),
        ("User-agent: *\nRequest-rate: 2/1m", 30.0, "30 s between requests, as robots.txt asks"),
        ("User-agent: gptoss-kit\nCrawl-delay: 3\n\nUser-agent: *\nCrawl-delay: 50", 3.0, "3 s between requests"),
        ("User-agent: *\nCrawl-delay: 86400", 60.0,
         "robots.txt asks for 86,400 s between requests, and 60 s are kept"),
        ("User-agent: *\nCrawl-delay: soon", 0.0, ""),
        ("User-agent: other\nCrawl-delay: 9", 0.0, ""),
    ],
)  # fmt: skip
def test_requests_begin_as_far_apart_as_robots_asks_redirects_and_second_tries_included(tmp_path, robots, delay, told):
    now, said = [0.0], []
    ledger = Ledger(clock=lambda: now[0])

    async def wait(seconds):
        now[0] += seconds  # nobody else moves the clock

    def answer(path, body, times):
        if path == "/robots.txt":
            return 200, {}, robots
        if path == "/docs/sitemap.xml":
            return 200, {}, urlset(*(f"{told_base[0]}/docs/{n}" for n in range(5)))
        if path == "/docs/1" and times == 1:
            return 503, {}, ""
        return (301, {"Location": "/docs/9"}, "") if path == "/docs/3" else (200, {}, words(path))

    told_base = []
    with serving(answer) as (base, asked), web.asking(ledger, wait=wait) as ask:
        told_base.append(base)
        fetch = Fetch("web", tmp_path, ask, said.append, ledger)
        urls, how = site.find(f"{base}/docs/", 10, fetch)
        found = list(remote.pages(urls, fetch))
    assert [type(one) for one in found] == [Page] * 5
    assert asked.total() == 2 + 5 + 2  # robots.txt, the sitemap; five pages, one twice, one by a redirect
    turns = delay * (asked.total() - 1)
    assert turns <= now[0] <= turns + 1.25  # what is waited before a second try
    assert told in how
    assert (told in said[0]) if told else "s between" not in how


def test_a_sitemap_where_they_usually_lie_and_an_index_that_names_itself(tmp_path):
    told = {}
    with files(told) as (base, asked):
        told["/docs/sitemap.xml"] = index(f"{base}/docs/sitemap.xml", f"{base}/docs/more.xml")
        told["/docs/more.xml"] = urlset(f"{base}/docs/a")
        assert found(f"{base}/docs/", tmp_path) == (["/docs/a"], "site: 1 URL by 2 sitemaps")
    assert asked["/docs/sitemap.xml"] == 1


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (urlset("http://a.example/docs/a")[:-30], "broken XML"),
        ("<html><body>Not found</body></html>", "its root is <html>, not <urlset> or <sitemapindex>"),
        ("", "broken XML"),
        ("<!DOCTYPE a [<!ENTITY b 'ha'><!ENTITY c '&b;&b;&b;&b;'><!ENTITY d '&c;&c;&c;&c;'>]>"
         + urlset("http://a.example/&d;"), "it has a DTD"),
        ("<!DOCTYPE a SYSTEM 'file:///etc/passwd'>" + urlset(), "it has a DTD"),
        (gzip.compress(b"<urlset>" + bytes(60_000_000), mtime=0), "more than 52,428,800 bytes"),
        (gzip.compress(urlset().encode(), mtime=0)[:-9], "its gzip ends in the middle"),
        ("<urlset>" + "<a>" * 1000, "nested too deeply"),
    ],
)  # fmt: skip
def test_a_broken_sitemap_is_named_and_the_next_way_is_taken(tmp_path, broken, why):
    with files({"/docs/sitemap.xml": broken, "/docs/": words("Docs", body="<a href=a>A</a>")}) as (base, _):
        urls, how = found(f"{base}/docs/", tmp_path)
    assert urls == ["/docs/", "/docs/a"]
    assert how.startswith(f"site: 2 URLs by links, 1 deep, no sitemap at /docs/sitemap.xml ({why}")


def test_a_sitemap_that_points_elsewhere_is_none(tmp_path):
    with files({"/sitemap.xml": urlset("https://evil.example/docs/a", "http://127.0.0.1:1/docs/b", "file:///docs/c",
                                       "http://[::1", "javascript:alert(1)"),
                "/docs/": words("Docs")}) as (base, _):  # fmt: skip
        urls, how = found(f"{base}/docs/", tmp_path)
    assert (urls, how) == (["/docs/"], "site: 1 URL by links, 0 deep")


def test_a_sitemap_that_names_the_front_page_alone_tells_nothing(tmp_path):
    told = {"/docs/": words("Docs", body="<a href=a>A</a>")}
    with files(told) as (base, _):
        told["/docs/sitemap.xml"] = urlset(f"{base}/docs/")
        assert found(f"{base}/docs/", tmp_path) == (["/docs/", "/docs/a"], "site: 2 URLs by links, 1 deep")


def test_of_a_hundred_thousand_urls_the_first_are_taken_and_the_others_counted(tmp_path):
    told = {}
    with files(told) as (base, _):
        told["/sitemap.xml"] = urlset(*(f"{base}/docs/{n}" for n in range(100_000)))
        urls, how = found(f"{base}/docs/", tmp_path, most=50)
    assert urls == [f"/docs/{n}" for n in range(50)]
    assert how == "site: 50 URLs by 1 sitemap, 99,950 over collect.max_pages"


def test_many_urls_are_read_in_flat_memory():
    data, count = urlset(*(f"https://a.example/docs/{n}" for n in range(30_000))).encode(), [0]

    def counted(loc):
        count[0] += 1

    tracemalloc.start()
    try:
        sitemap.read(data, counted, counted)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert count == [30_000]


def test_the_pages_of_sphinx_s_inventory(tmp_path):
    told = {
        "/docs/objects.inv": objects(
            "shelf py:module 0 library/shelf.html#module-$ -",
            "shelf.put py:function 1 library/shelf.html#$ -",
            "a label with spaces std:label -1 guide.html#a-label A label: with spaces",
            "index std:doc -1 index.html Welcome",
            "genindex std:label -1 genindex.html Index",
            "search std:label -1 search.html Search Page",
            "shelf.odd py:function 1 $ -",
            "up std:doc -1 ../other/x.html Up",
            "evil std:doc -1 https://evil.example/x.html Evil",
            "no such line",
        )
    }
    with files(told) as (base, _):
        urls, how = found(f"{base}/docs/index.html", tmp_path)
    assert urls == ["/docs/library/shelf.html", "/docs/guide.html", "/docs/index.html", "/docs/shelf.odd"]
    assert how == "site: 4 URLs by objects.inv, 2 elsewhere"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (objects("a std:doc -1 a.html A", version=1), "no inventory of version 2"),
        (objects("a std:doc -1 a.html A")[:-6], "its zlib data ends in the middle"),
        (objects()[:-8] + b"nonsense", "its zlib data is broken"),
        (b"<html>", "no inventory of version 2"),
    ],
)
def test_a_broken_inventory_is_an_error_in_one_line(data, why):
    with pytest.raises(ValueError, match=why):
        inventory.pages(data)


def test_an_inventory_bomb_is_an_error():
    with pytest.raises(ValueError, match="holds more than"):
        inventory.pages(objects("a" * (inventory.LARGEST + 100)))


def test_links_breadth_first_within_the_folder_and_each_page_asked_for_once(tmp_path):
    links = "".join(
        f"<a href='{href}'>x</a>"
        for href in ["b.html", "a.html#top", "a.html?q=1", "/docs/deep/", "../blog/", "https://b.example/docs/",
                     "mailto:a@b.example",
                     "x.pdf", "_modules/a.html", "genindex.html", "secret/", "", "http://[::1", "gone.html"]
    )  # fmt: skip
    told = {
        "/robots.txt": "User-agent: *\nDisallow: /docs/secret/",
        "/docs/": words("Docs", body=links),
        "/docs/a.html": words("A", body="<a href='c.html'>C</a><a href='/docs/'>up</a>"),
        "/docs/b.html": words("B", body="<a href='d.html'>D</a><a href='a.html'>A</a>"),
        "/docs/c.html": words("C"),
        "/docs/d.html": (302, {"Location": "/blog/"}, ""),
        "/docs/deep/": words("Deep", head="<base href='/docs/deep/er/'>", body="<a href='e.html'>E</a>"),
        "/docs/deep/er/e.html": words("E"),
    }
    with files(told) as (base, asked):
        made, how = collected(f"{base}/docs/", tmp_path)
    got = [(f.url if isinstance(f, Page) else f"{f.id[4:]}: {f.reason}").removeprefix(base) for f in made]
    assert got == [
        "/docs/",
        "/docs/b.html",
        "/docs/a.html",
        "/docs/deep/",
        "/docs/gone.html: HTTP 404",
        f"/docs/d.html: a redirect to {base}/blog/, which is elsewhere",
        "/docs/c.html",
        "/docs/deep/er/e.html",
    ]
    assert how == "site: 8 URLs by links, 2 deep, 1 disallowed by robots.txt, 2 elsewhere"
    assert {path: n for path, n in asked.items() if n > 1} == {}
    assert "/blog/" not in asked


def test_a_walk_ends_at_max_pages(tmp_path):
    def answer(path, body, times):
        n = path.rpartition("/")[2] or "0"
        return (200, {}, words(n, body=f"<a href=/w/{int(n) + 1}>next</a>")) if n.isdecimal() else (404, {}, "")

    with serving(answer) as (base, asked):
        urls, how = found(f"{base}/w/", tmp_path, most=5)
    assert urls == ["/w/", "/w/1", "/w/2", "/w/3", "/w/4"]
    assert how == "site: 5 URLs by links, 4 deep, 1 over collect.max_pages"
    assert "/w/5" not in asked


def test_a_folder_s_address_may_lack_its_slash(tmp_path):
    told = {
        "/docs": (301, {"Location": "/docs/"}, ""),
        "/docs/": words("Docs", body="<a href=a>A</a>"),
        "/docs/a": words("A"),
    }
    with files(told) as (base, _):
        made, _ = collected(f"{base}/docs", tmp_path)
        assert collected(f"{base}/docs", tmp_path)[0] == made  # from what was kept, where it was found
    assert [f.url.removeprefix(base) for f in made if isinstance(f, Page)] == ["/docs", "/docs/a"]


def test_what_robots_txt_disallows_is_not_read_and_one_that_cannot_be_had_disallows_all(tmp_path):
    with files({"/robots.txt": "User-agent: *\nDisallow: /"}) as (base, asked):
        with pytest.raises(UserError, match="disallows"):
            found(f"{base}/docs/", tmp_path)
        assert list(asked) == ["/robots.txt"]
    with files({"/robots.txt": (503, {}, "")}) as (base, _), pytest.raises(UserError, match="cannot be had") as e:
        found(f"{base}/docs/", tmp_path)
    assert "HTTP 503" in e.value.why
    with pytest.raises(UserError, match=r"collect\.url is not an http or https URL"):
        site.start_of("docs.example.org")
    assert site.start_of("https://Docs.example.org?q=1#part") == "https://docs.example.org/"


def test_the_same_site_through_bright_data(tmp_path, monkeypatch):
    monkeypatch.setenv(brightdata.TOKEN, TOKEN)
    start, there = "https://docs.example.org/guide/", {}
    there[start + "sitemap.xml"] = gzip.compress(urlset(start + "a", start + "b").encode())
    there |= {start + name: words(name) for name in "ab"}

    def answer(url, times):
        return (200, {}, there[url]) if url in there else (404, {}, "no")

    ledger = Ledger()
    with (
        unlocking(answer) as (base, asked),
        brightdata.asking("my_zone", ledger, base_url=base, wait=unhurried) as ask,
    ):
        fetch = Fetch("brightdata", tmp_path, ask)
        urls, how = site.find(start, 10, fetch)
        pages = list(remote.pages(urls, fetch))
    assert [page.id for page in pages] == [f"brightdata:{start}a", f"brightdata:{start}b"]
    assert how == "site: 2 URLs by 1 sitemap"
    assert (ledger.requests, ledger.billed) == (4, 3)  # robots.txt is not there
    assert set(asked.values()) == {1}


def test_a_refused_token_ends_the_finding_too(tmp_path, monkeypatch):
    monkeypatch.setenv(brightdata.TOKEN, TOKEN)
    with (
        unlocking(lambda *_: (401, OUTER, "no")) as (base, _),
        brightdata.asking("my_zone", Ledger(), base_url=base, wait=unhurried) as ask,
        pytest.raises(UserError, match="refuses the token"),
    ):
        site.find("https://docs.example.org/", 10, Fetch("brightdata", tmp_path, ask))


@pytest.mark.parametrize(
    ("start", "url", "is_under"),
    [
        ("https://a.example/docs/", "https://a.example/docs/x", True),
        ("https://a.example/docs/", "http://a.example:80/docs/x", True),
        ("https://a.example/docs", "https://a.example/docs/x", True),
        ("https://a.example/docs", "https://a.example/docsx", False),
        ("https://a.example/docs/index.html", "https://a.example/docs/x", True),
        ("https://a.example/docs/", "https://A.example/docs/", True),
        ("https://a.example/docs/", "https://a.example:8443/docs/x", False),
        ("https://a.example/docs/", "https://a.example.evil.example/docs/x", False),
        ("https://a.example/docs/", "https://u:p@a.example/docs/x", False),
        ("https://a.example/docs/", "https://a.example/docs/%2e%2E/x", False),
        ("https://a.example/docs/", "https://a.example/docs/..%5Cx", False),
        ("https://a.example/docs/", "ftp://a.example/docs/x", False),
        ("https://a.example", "https://a.example", True),
    ],
)
def test_what_lies_under_an_address(start, url, is_under):
    assert address.under(start)(url) is is_under


@given(st.text(max_size=200), st.text(max_size=50))
def test_any_link_is_an_address_or_none(link, base):
    made = address.page_of(link, f"https://a.example/{base}", "https://a.example/")
    assert made == "" or made.startswith(("https://", "http://"))
    assert "#" not in made
    assert address.under("https://a.example/")(link) in {True, False}


@given(st.binary(max_size=300))
def test_any_bytes_are_a_sitemap_or_a_value_error(data):
    for given_ in (data, b"<urlset>" + data, urlset("https://a.example/").encode()[: len(data)]):
        with suppress(ValueError):
            sitemap.read(given_, str, str)


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="#$"), min_size=1), max_size=5))
def test_what_an_inventory_names_is_what_was_written(names):
    lines = [f"some {name} std:doc -1 {name} A title" for name in names]
    assert inventory.pages(objects(*lines)) == list(dict.fromkeys(names))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_inventory_or_a_value_error(data):
    for given_ in (data, objects()[:-8] + data, objects(data.decode("latin-1"))):
        with suppress(ValueError):
            assert isinstance(inventory.pages(given_), list)


def test_a_failure_is_a_failure(tmp_path):
    with files({}) as (base, _):
        (made,), _ = collected(f"{base}/docs/", tmp_path)
    assert made == Failure(id=f"web:{base}/docs/", reason="HTTP 404")
