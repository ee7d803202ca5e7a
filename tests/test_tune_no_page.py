"""What comes with status 200 and is no page; and pages about such things, which stay pages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins.internet import words

from tune.data.sources import no_page

CLOUDFLARE = """<!DOCTYPE html><html><head><title>{}</title><script>window._cf_chl_opt={{cvId:'3'}};</script></head>
<body><div class="main-wrapper"><h1>docs.example.org</h1><p>{}</p></div></body></html>"""
ARTICLE = "A paragraph of an article that explains at some length what happens here and why it does. " * 12

WALLS = {
    "cloudflare": (words("Just a moment..."), "a robot check (Just a moment...)"),
    "in another language": (CLOUDFLARE.format("Einen Moment, bitte", "Nur kurz."), "a robot check (Cloudflare)"),
    "by id": (words("docs.example.org", body='<form id="challenge-form"></form>'), "a robot check (Cloudflare)"),
    "blocked": (words("Attention Required! | Cloudflare"), "a robot check (Attention Required!)"),
    "human": (words("Verify you are human"), "a robot check (Verify you are human)"),
    "akamai": (words("Access Denied", "You don't have permission to access this server."), "a robot check"),
    "akamai, by link": (
        words("Sorry", body='<a href="https://errors.edgesuite.net/18.x">Reference</a>'),
        "a robot check (Akamai)",
    ),
    "perimeterx": (words("Docs", body='<div id="px-captcha"></div>'), "a robot check (PerimeterX)"),
    "datadome": (
        '<html><head><title>docs.example.org</title></head><body><script src="https://ct.captcha-delivery.com/c.js">'
        "</script></body></html>",
        "a robot check (DataDome)",
    ),
    "imperva": (
        '<html><body><iframe id="main-iframe" src="/_Incapsula_Resource?x=1">Failed</iframe></body></html>',
        "a robot check (Imperva)",
    ),
    "captcha": (words("docs.example.org", body='<div class="g-recaptcha"></div>'), "a robot check (a captcha)"),
    "login": (words("Sign in to Example"), "a login wall (Sign in to Example)"),
    "password": (words("Example", body='<input type="password">'), "a login wall (a password is asked for)"),
    "quota": (words("Daily quota exceeded"), "a quota message"),
    "429": (words("429 Too Many Requests"), "a quota message (429 Too Many Requests)"),
    "no heading": ("<html><body>API rate limit exceeded for this address.</body></html>", "a wall or a quota message"),
    "json": ('{"error": "quota exceeded"}', "text, not HTML"),
    "soft 404": (words("Page not found — Example 1.0 documentation"), "a soft 404 (Page not found)"),
    "in a heading": ("<title>Example docs</title><body><h1>404</h1><p>Try the search.</p>", "a soft 404 (404)"),
    "oops": (words("Oops! That page could not be found."), "a soft 404"),
    "server": (words("503 Service Temporarily Unavailable"), "a server's error"),
    "empty": ("  ", "an empty answer"),
}  # fmt: skip


@pytest.mark.parametrize("name", WALLS)
def test_a_wall_is_no_page_and_the_reason_says_which(name):
    html, reason = WALLS[name]
    assert no_page.why(html).startswith(reason)


PAGES = {
    "404 explained": words("404 Not Found - HTTP", ARTICLE),
    "404 in code": words("Not Found", "Raise it so:", body="<pre>raise NotFound()</pre>"),
    "cloudflare's challenges": words(
        "How challenges work", "Visitors see “Just a moment...” and then “Verify you are human”. " + ARTICLE,
        body="<pre>&lt;form id=&quot;challenge-form&quot;&gt; window._cf_chl_opt</pre>",
    ),
    "a live demonstration": words("Turnstile", ARTICLE * 2, body='<div class="cf-turnstile"></div>'),
    "rate limits": words("Rate limits", "When the rate limit is exceeded the answer is 429 Too Many Requests."),
    "a manual about logging in": words("Log in", "To log in, open the application and enter the address. " * 6),
    "a login form beside the text": words("Guide", ARTICLE, body='<input type="password">'),
    "behind cloudflare": words("Guide", head="<script src='/cdn-cgi/challenge-platform/scripts/jsd/main.js'></script>"),
    "analytics of datadome": words("Guide", head="<script src='https://js.datadome.co/tags.js'></script>"),
    "error handling": words("Error 404 handling", "Return a page of your own."),
    "access denied, an exception": words("Access denied errors", "They mean a missing right."),
    "short": words("Tiny", "One line."),
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_a_page_about_walls_stays_a_page(name):
    assert no_page.why(PAGES[name]) == ""


@given(st.text(max_size=300))
def test_any_text_is_judged_without_an_error(text):
    assert isinstance(no_page.why(text), str)
    assert isinstance(no_page.why(f"<title>{text}</title><h1>{text}</h1><p>{text}"), str)


def test_a_very_long_title_is_judged_at_once():
    assert no_page.why(words("sign in to " * 30_000)) == ""
