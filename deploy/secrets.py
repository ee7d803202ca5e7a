"""What a secret looks like, and text without any: for renders, messages and the record of pushes. Reads no secret but
the variables that it is told the names of."""

import os
import re
from collections.abc import Iterable, Mapping

from tune.terminal import one_line

SHOWN = 300  # characters of what a platform says

# What tokens of the services around us look like. A match is named by its kind and never shown.
SECRETS: Mapping[str, str] = {
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{20,}",
    "an OpenAI-style key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a RunPod key": r"\brpa_[A-Za-z0-9]{20,}",
    "a Modal token": r"\b(ak|as|wk|ws)-[A-Za-z0-9]{20,}",
    "an AWS access key": r"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
    "a SageMaker bearer token": r"\bsagemaker-api-key-[A-Za-z0-9+/=]{20,}",
    "a GitHub token": r"\b(gh[pousr]_|github_pat_)[A-Za-z0-9_]{20,}",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in a URL": r"://[^/\s:@]+:[^/\s:@]+@",
}
LOOSE = r"(?i)\b(bearer|basic)\s+[^\s'\",]+"  # what follows is one, whatever it looks like
BLOCK = r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*"
NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH")  # of variables whose values are never shown
SHORTEST = 8  # characters of such a value: a shorter one is a word that stands anywhere


def kinds(text: str) -> list[str]:
    """The kinds of secret that something in the text looks like."""
    return [kind for kind, pattern in SECRETS.items() if re.search(pattern, text)]


def values(names: Iterable[str] = ()) -> list[str]:
    """What the variables named hold, and all whose own names speak of secrets; the longest first."""
    told = {*names, *(name for name in os.environ if NAMES.search(name))}
    found = {os.environ.get(name, "").strip() for name in told}
    return sorted((v for v in found if len(v) >= SHORTEST), key=len, reverse=True)


def cleaned(text: str, names: Iterable[str] = ()) -> str:
    """The text with everything that looks like a secret, and what such variables hold, as an ellipsis."""
    for value in values(names):
        text = text.replace(value, "…")
    for pattern in (BLOCK, *SECRETS.values()):
        text = re.sub(pattern, "…", text)
    return re.sub(LOOSE, r"\1 …", text)


def said(text: str, names: Iterable[str] = ()) -> str:
    """A platform's words as one line that is cut, escaped and without secrets. Cleaned before it is cut: half a key is
    still one."""
    return one_line(cleaned(text, names), SHOWN)
