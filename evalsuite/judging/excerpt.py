"""Somebody's words in, as much of them as a report can hold: cut, and those of a server without secrets. Pure text."""

import re

from tune.terminal import one_line

_LOOKED_AT = 2000  # characters: an endless error costs no time

# A name that ends in such a word, however it is spelled: api key, X-Api-Key, AWS_SECRET_ACCESS_KEY, accessToken.
# `tokens` and `KeyError` are none.
_NAME = (
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
    r"(?i:(?:api|auth|access|secret|private|client|session)?(?:key|token|secret)|apikeys|secrets"
    r"|pass(?:words?|wd|phrase)|pwd|credentials?|sig(?:nature)?|auth(?:orization)?)"
    r"(?:[-_]?\d+)?(?![A-Za-z0-9_-])"
)
# Up to three words may stand between it and its value, but for these, behind which other things are told.
_BETWEEN = (
    r"(?:\s+(?!(?i:limit|error|count|length|budget|usage|rate|type|failed|failure|missing|required)\b)"
    r"[A-Za-z][\w-]*){0,3}?"
)
_IS = r"\\?[\"']?\s*(?:=+>?|:(?!//)=?|%3[ADad])\s*"
_QUOTED = r"(?P<quote>\\?[\"'])(?:(?!(?P=quote))(?:\\.|.))*(?:(?P=quote))?"  # without its end, when the text was cut
_BARE = r"(?:(?i:bearer|basic|digest|token)\s+)?[^\s&\"'\\][^\s&]*"

_SECRETS = (
    (re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|$)"), "***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 ***"),
    (re.compile(r"(?i)(://)[^/\s@]+@"), r"\1***@"),
    (re.compile(rf"(?s)({_NAME}{_BETWEEN}(?:{_IS}|\s+)){_QUOTED}"), r"\1\g<quote>***\g<quote>"),
    (re.compile(rf"({_NAME}{_BETWEEN}{_IS}){_BARE}"), r"\1***"),
    (re.compile(rf"({_NAME}\s+(?:is|was)\s+)(?=[^\s&]*\d){_BARE}"), r"\1***"),
    (re.compile(rf"({_NAME}\s+)(?=\S*\d)(?=\S*[A-Za-z])[^\s&\"'\\][^\s&]{{5,}}"), r"\1***"),
    (
        re.compile(r"\b(?:sk|pk|rk|ak|as|hf|gh[a-z]|github_pat|xox[a-z]|rpa|wk|ws)[-_][\w-]{8,}|\bAKIA[0-9A-Z]{12,}"),
        "***",
    ),
    # Keys and tokens of any maker; ids of a request too, without which errors that are one error read as many. Digests
    # of ours are 16 hex characters, and classes of models have one digit.
    (re.compile(r"\b(?=[\w-]*\d)[\w-]{32,}\b"), "***"),
    (re.compile(r"\b(?=\w*[a-z])(?=\w*[A-Z])(?=\w*\d\w*\d)[A-Za-z0-9]{20,}\b"), "***"),
)


def cut(text: str, most: int) -> str:
    """At most `most` characters, of both ends, and how many are left out between them: an answer stands at the end."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} […{len(text) - 2 * half} more characters…] {text[-half:]}"


def without_secrets(text: str, most: int) -> str:
    """The first `most` characters of a server's words, in one line, controls escaped, and what looks like a key ***.

    That is: the value behind a word such as key, token or password, quoted or not, however short; and long runs of
    letters and digits wherever they stand.
    """
    text = one_line(text[:_LOOKED_AT], 10 * _LOOKED_AT)
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return one_line(text, most)
