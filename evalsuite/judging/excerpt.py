"""Somebody's words in, as much of them as a report can hold: cut, and those of a server without secrets. Pure text."""

import re

from tune.terminal import one_line

_LOOKED_AT = 2000  # characters: an endless error costs no time

_SECRETS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 ***"),
    (
        re.compile(
            r"(?i)\b((?:\w*[-_])?(?:api[-_ ]?key|token|secret|password|authorization)[\"']?\s*[:=]\s*[\"']?)"
            r"[^\s\"',;&]+"
        ),
        r"\1***",
    ),
    (re.compile(r"(?i)(://)[^/\s@]+@"), r"\1***@"),
    (
        re.compile(r"\b(?:sk|pk|rk|ak|as|hf|gh[a-z]|github_pat|xox[a-z]|rpa|wk|ws)[-_][\w-]{8,}|\bAKIA[0-9A-Z]{12,}"),
        "***",
    ),
    # Keys and tokens of any maker; ids of a request too, without which errors that are one error read as many.
    (re.compile(r"\b(?=[\w-]*\d)[\w-]{32,}\b"), "***"),
)


def cut(text: str, most: int) -> str:
    """At most `most` characters, of both ends, and how many are left out between them: an answer stands at the end."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} […{len(text) - 2 * half} more characters…] {text[-half:]}"


def without_secrets(text: str, most: int) -> str:
    """The first `most` characters of a server's words, in one line, controls escaped, and what looks like a key ***."""
    text = text[:_LOOKED_AT]
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return one_line(text, most)
