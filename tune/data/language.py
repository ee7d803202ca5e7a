"""Which language a text's prose is in, by py3langid: character statistics inside its wheel, no network.

In: Markdown. Out: an ISO 639-1 code, or "" where there is too little prose to tell. Code counts as nothing.
"""

import re
from functools import cache
from typing import TYPE_CHECKING

from tune.errors import UserError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

LEAST = 40  # letters of prose: less is a name or a value
SURE = 0.9  # probability below which nothing is said

_CODE = re.compile(
    r"(?ms)^[ \t]*(`{3,}+|~{3,}+).*?^[ \t]*\1|(`{1,2})[^`\n]+\2|^[ \t]*(?:>>>|\.\.\.|\|).*?$|https?://\S+"
)


def of(text: str) -> str:
    """The language of a text's prose, "" when it cannot be told. Raises UserError without py3langid."""
    prose = " ".join(_CODE.sub(" ", text).split())
    if sum(map(str.isalpha, prose)) < LEAST:
        return ""
    spoken, probability = _identifier().classify(prose[:2000])
    return str(spoken) if probability >= SURE else ""


@cache
def _identifier() -> "LanguageIdentifier":
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        fix = 'pip install "gptoss-kit[train]", or leave dataset.languages out of recipe.toml'
        raise UserError("dataset.languages needs py3langid", fix=fix) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
