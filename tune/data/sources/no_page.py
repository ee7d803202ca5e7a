"""HTML that came with status 200 and is no documentation: robot checks, login walls, quota messages, soft errors.

In: HTML. Out: why it is no page, in one line, or "". Judged by marks in attributes, which a page that writes about them
does not carry, or by the whole of a title or first heading over little text: "404 Not Found" over an article is an
article. Knows nothing about where the HTML came from.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tune.data import html as reader
from tune.data.inline import squeezed

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser

# Characters of text that a page may have, and no example, to be judged by what stands before them.
MARKED = 2_000  # a mark: the vendors' own explanations are long
NAMED = 500  # a title or heading: an error says less, an article about one more
LOGIN = 200  # one that says to log in: a manual's page about that is short

# Elements that only a vendor's own challenge has: its everyday scripts (jsd/main.js, tags.js) are no marks.
_MARKS = {
    "Cloudflare": "#challenge-form, #challenge-running, #challenge-error-text, #cf-challenge-running,"
    "#cf-error-details, .cf-browser-verification, .cf-error-details,"
    "script[src*='/cdn-cgi/challenge-platform/'][src*='/orchestrate/']",
    "PerimeterX": "#px-captcha, #px-captcha-wrapper, script[src*='captcha.px-cdn.net']",
    "DataDome": "iframe[src*='captcha-delivery.com'], script[src*='captcha-delivery.com']",
    "Akamai": "#sec-if-cpt-container, #sec-cpt-if, a[href*='errors.edgesuite.net']",
    "Imperva": "iframe[src*='_Incapsula_Resource']",
    "AWS WAF": "script[src*='captcha-sdk.awswaf.com']",
    "a captcha": ".g-recaptcha, .h-captcha, .cf-turnstile, iframe[src*='recaptcha/api2'], iframe[src*='hcaptcha.com']",
}
# The whole of a title or of a first heading, without its last dots.
_SAYS = {
    "a robot check": (
        "just a moment",
        "attention required",
        "(one moment,? )?please wait",
        "checking (your|the) browser.*",
        "(please )?(verify|verifying|confirm)( that)? you are (a )?human.*",
        "are you (a )?(human|robot)",
        "(human|browser|bot) verification",
        "(robot|security) check",
        "pardon our interruption",
        "access (to this page )?(has been |is )?(temporarily )?(denied|blocked)",
        "(sorry,? )?you have been blocked",
        "request blocked",
        "unusual traffic.*",
    ),
    "a login wall": (
        "(please )?(log|sign) ?in( (required|page|to .{1,60}))?",
        "(login|authentication|subscription) required",
        "you (must|need to) (be logged|log|sign) in.*",
        "members only",
    ),
    "a quota message": (
        "(api )?((rate|request|usage|daily|monthly|bandwidth) )+(limit|quota) (was |has been )?(exceeded|reached)",
        "quota (was |has been )?(exceeded|reached)",
        "(error )?(429)?[ :-]*too many requests",
    ),
    "a soft 404": (
        "((oops|sorry)[!,. ]+)?((the|this|that) )?(requested )?(page|url|document|file) ((was|could) )?(not|cannot) "
        "(be )?found",
        "(this |the |that )?page (doesn['’]t|does not) exist",
        "(http )?(error )?404[ :–—-]*(error|(page |file )?not found)?",
        "not found",
    ),
    "a server's error": (
        "(http )?(error )?50[0234][ :–—-]*(error)?",
        "((http )?(error )?50[0234][ :–—-]*)?(internal server error|bad gateway|gateway time-?out)",
        "((http )?(error )?503[ :–—-]*)?service (temporarily )?unavailable",
        "(this site is |we are |we['’]ll be )?(down for|under) (scheduled )?maintenance",
    ),
}
_WHOLE = {kind: re.compile(rf"(?:{'|'.join(said)})[\s.!…]*", re.IGNORECASE) for kind, said in _SAYS.items()}
_TEXT = re.compile(
    r"(?:quota|(?:rate|request|usage|daily|monthly) limit)\b[^.]{0,40}\b(?:exceeded|reached)|too many requests"
    r"|verify(?:ing)? (?:that )?you are (?:a )?human|enable javascript and cookies to continue"
    r"|(?:please |you must )(?:log|sign) in to ",
    re.IGNORECASE,
)
_PARTS = re.compile(r"\s+[|·•—–-]\s+|\s*[|·•]\s*")  # between a page's name and its site's
_MARKUP = re.compile(
    r"<(?:!doctype|html|head|body|title|main|article|section|div|p|h[1-6]|pre|table|ul)\b", re.IGNORECASE
)


def why(html: str) -> str:
    """Why this HTML is no page: "a robot check (Cloudflare)", "a soft 404 (Page not found)". Empty when it may be."""
    from selectolax.lexbor import LexborHTMLParser

    if len(html) > reader.LARGEST:
        return f"more than {reader.LARGEST:,} characters of HTML"
    if not html.strip():
        return "an empty answer"
    if not _MARKUP.search(html):
        return f"text, not HTML ({squeezed(html)[:60]})"
    tree = LexborHTMLParser(html)
    said = -1
    for reason, most in (*_marked(tree), *_said(tree)):
        said = _length(html) if said < 0 else said
        if said < most:
            return reason
    return ""


def _marked(tree: "LexborHTMLParser") -> Iterator[tuple[str, int]]:
    """Reasons that attributes give, each with the length of text that disproves it."""
    for vendor, selector in _MARKS.items():
        if tree.css_first(selector):
            yield f"a robot check ({vendor})", MARKED
    if any("_cf_chl_opt" in script.text() for script in tree.css("script:not([src])")):
        yield "a robot check (Cloudflare)", MARKED
    if tree.css_first("input[type=password]"):
        yield "a login wall (a password is asked for)", NAMED


def _said(tree: "LexborHTMLParser") -> Iterator[tuple[str, int]]:
    """Those that the whole of a title or of the first heading gives; or else, of a page without headings, its text."""
    title, heading = tree.css_first("title"), tree.css_first("h1, h2")
    for name in [squeezed(node.text()) for node in (title, heading) if node]:
        for part in (name, *_PARTS.split(name)[:1], *_PARTS.split(name)[-1:]):
            for kind, pattern in _WHOLE.items():
                if len(part) < LOGIN and pattern.fullmatch(part.strip()):
                    yield f"{kind} ({part.strip()[:60]})", LOGIN if "login" in kind else NAMED
    if not heading and tree.body and (found := _TEXT.search(squeezed(tree.body.text()))):
        yield f"a wall or a quota message ({found[0][:60]})", LOGIN


def _length(html: str) -> int:
    """Characters of text in the page; of one with an example, more than any wall has."""
    try:
        blocks = reader.parse(html).blocks
    except ValueError:
        return 0  # no text at all, as where it all comes by script
    return sum(len(block.render()) for block in blocks) + MARKED * any(block.kind == "code" for block in blocks)
