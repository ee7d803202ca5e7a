"""Credentials that stand in a text: which kind each is, and where; never what it is.

In: any text. Out: spans. Named patterns of well-known issuers, and values that are assigned to a password's name or
stand in a URL. Documentation is full of made-up ones: what says that it is an example, repeats or counts up is none.
Pure; knows no files and no examples.

detect-secrets 1.5 was held against 5,539 pages of documentation. Its plugins for keywords, URLs and private keys name
319 secrets there, of which nearly all are "secret", "<password>" and the like, those for entropy 76,000, and none gives
a place in the text. So few patterns with names are here, which find six: the keys that Flask's manual prints.
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from math import log2
from typing import NamedTuple

MASK = "[...]"
RANDOM = 3.0  # bits a character: hex digits by chance have 3.3 to 3.9 at 32 characters, a word or a pattern has less
LEAST_KEY = 100  # base64 characters of a private key: a 256-bit elliptic one has 160, an example's dots none


class Span(NamedTuple):
    """Where something stands in a text, and what kind of thing it is."""

    kind: str
    start: int
    end: int


_WORD = r"[A-Za-z0-9_-]"
# Where a pattern has a group "value", that is the secret; otherwise all of it is.
_PATTERNS = {
    "AWS access key": re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    "GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})\b"),
    "GitLab token": re.compile(rf"\bglpat-{_WORD}{{20}}(?!{_WORD})"),
    "Slack token": re.compile(r"\bxox[abeoprs]-[0-9]{8,}-[A-Za-z0-9-]{10,}"),
    "Slack webhook": re.compile(r"https://hooks\.slack\.com/services/(?P<value>T\w{8,}/B\w{8,}/\w{20,})"),
    "Google API key": re.compile(rf"\bAIza{_WORD}{{35}}(?!{_WORD})"),
    "OpenAI-like key": re.compile(rf"\bsk-(?:(?:ant|proj|svcacct|or|live)-)?{_WORD}{{20,}}"),
    "Stripe key": re.compile(r"\b[sr]k_live_[A-Za-z0-9]{20,}\b"),
    "Hugging Face token": re.compile(r"\bhf_[A-Za-z]{34}\b"),
    "PyPI token": re.compile(rf"\bpypi-AgEI{_WORD}{{50,}}"),
    "npm token": re.compile(r"\bnpm_[A-Za-z0-9]{36}\b"),
    "private key": re.compile(
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?P<value>[^-]{1,20000})(?:-----END|\Z)"
    ),
    "JSON web token": re.compile(rf"\beyJ{_WORD}{{8,}}\.(?P<body>eyJ{_WORD}{{8,}})\.{_WORD}{{16,}}"),
    "assigned secret": re.compile(
        r"""(?ix)(?:password|passwd|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|api[_-]?key|
        auth[_-]?token|access[_-]?token|access[_-]?key|client[_-]?secret)["']?[ ]{0,3}(?::=|[:=])[ ]{0,3}
        (?P<quote>["'])(?P<value>[^"'\s]{12,200})(?P=quote)"""
    ),
    "password in a URL": re.compile(
        r"(?<=[a-z])://[^\s/:@'\"<>]{1,100}:(?P<value>[^\s/:@'\"<>]{8,100})@(?P<host>[\w.-]+)"
    ),
}
_SIGNS = {  # of which one stands in a text before its pattern is tried: most texts have none
    "AWS access key": ("AKIA", "ASIA"),
    "GitHub token": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    "GitLab token": ("glpat-",),
    "Slack token": ("xox",),
    "Slack webhook": ("hooks.slack.com",),
    "Google API key": ("AIza",),
    "OpenAI-like key": ("sk-",),
    "Stripe key": ("k_live_",),
    "Hugging Face token": ("hf_",),
    "PyPI token": ("pypi-",),
    "npm token": ("npm_",),
    "private key": ("-----BEGIN",),
    "JSON web token": ("eyJ",),
    "assigned secret": ("'", '"'),
    "password in a URL": ("://",),
}
_NAMES = ("passw", "pwd", "secret", "key", "token")  # of one is what an assigned secret is assigned to
_LOOSE = {"assigned secret", "password in a URL"}  # anything may stand there: only what looks random counts
_MADE_UP = re.compile(
    r"(?i)example|sample|dummy|fake|placeholder|change.?me|your|secret|passw|insert|replace|redacted|hunter2|tiger|xxx|"
    r"\.\.\.|…|\*\*\*|[<>{}$%]|test|1234567|7654321|abcdef(?!\d)|lorem|foobar|(.)\1{5}"
)
_SOMEBODY = re.compile(r"(?i)john|jane|alice|\bbob\b|example|1234567890|foo|test")


def found(text: str) -> list[Span]:
    """Every credential in a text that is not plainly an example, in order; the first of those that overlap."""
    return merged(_spans(text))


def suspected(text: str) -> bool:
    """Whether a text could hold one at all: a look at it that costs a tenth of finding."""
    for kind, signs in _SIGNS.items():
        for sign in signs:
            if sign in text and (kind != "assigned secret" or any(name in text.casefold() for name in _NAMES)):
                return True
    return False


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, without those that begin inside one before them."""
    out: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not out or span.start >= out[-1].end:
            out.append(span)
    return out


def masked(text: str, spans: Iterable[Span]) -> str:
    """The text with `[...]` where the spans are."""
    out, at = list[str](), 0
    for span in merged(spans):
        out += [text[at : span.start], MASK]
        at = span.end
    return "".join([*out, text[at:]])


def entropy(text: str) -> float:
    """Shannon entropy of a text's characters in bits each, of their frequencies in it; 0 for an empty text."""
    return -sum(n / len(text) * log2(n / len(text)) for n in Counter(text).values())


def _spans(text: str) -> Iterator[Span]:
    for kind, pattern in _PATTERNS.items():
        for match in pattern.finditer(text) if any(sign in text for sign in _SIGNS[kind]) else ():
            group = "value" if "value" in pattern.groupindex else 0
            if not _example(kind, match, match[group]):
                yield Span(kind, *match.span(group))


def _example(kind: str, match: re.Match[str], value: str) -> bool:
    if kind == "private key":
        return len(re.findall(r"[A-Za-z0-9+/]", value)) < LEAST_KEY or entropy(value) < RANDOM or "..." in value
    if kind == "JSON web token":
        return bool(_SOMEBODY.search(_decoded(match["body"])))
    if kind == "password in a URL" and re.search(r"(?i)(^|\.)example(\.|$)|localhost|^127\.|^host", match["host"]):
        return True
    if kind in _LOOSE and not (re.search(r"\d", value) and re.search(r"[A-Za-z]", value) and _dense(value)):
        return True
    return bool(_MADE_UP.search(value)) or entropy(value) < RANDOM


def _dense(value: str) -> bool:
    """Whether it is no name, path, call or version: those have words in them."""
    return not re.search(r"[()/\\\[\],;]|[A-Za-z]{7}|\d\.\d", value)


def _decoded(part: str) -> str:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("utf-8", "replace")
    except (ValueError, binascii.Error):
        return ""
