"""What an imported run says of one question, how it is chosen from a record, and which scores are right or wrong.

Knows no format. A record is what a JSON parser gave: any value may stand anywhere.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from math import isnan
from typing import Any, NamedTuple

from tune.terminal import one_line

RIGHT, WRONG = (
    {"c", "true", "yes", "pass", "passed", "correct"},
    {"i", "n", "false", "no", "fail", "failed", "incorrect"},
)
MOST = 1e9  # no score is so large; no comparison with NaN holds
GRADED = "only right and wrong can be judged: say from which score on it is right by --right-at, such as --right-at 0.5"


class Item(NamedTuple):
    """One question of a run. `right` is None where there is no score. Texts are compared, never shown."""

    id: str  # the same in both runs
    module: str  # what goes together under the bounds; "" where nothing says
    right: bool | None
    prompt: str = ""  # digest of what was asked and expected; "": the file does not say
    reply: str = ""  # digest of what was answered; "": the file does not say
    answer: str = ""  # digest of what was expected
    chance: float = 0.0  # of being right without reading, where the file shows the choices


class Choice(NamedTuple):
    """What a user says of a file; "" and None: nothing."""

    metric: str = ""  # which of several scores
    module: str = ""  # key whose value groups the items: a dotted path
    id: str = ""  # key whose value pairs them
    right_at: float | None = None  # a score from here on is right


class Refused(Exception):
    """A file that is not what it should be: why, and the edit that mends it."""

    def __init__(self, why: str, fix: str = "") -> None:
        super().__init__(why)
        self.why, self.fix = why, fix


def right(score: object, choice: Choice, where: str) -> bool | None:
    """True or False of a score, None of one that is not there (null, NaN). Raises Refused for one that is graded."""
    if score is None or (isinstance(score, float) and isnan(score)):
        return None
    if isinstance(score, bool):
        return score
    if isinstance(score, str):
        word = score.strip().lower()
        if word in RIGHT or word in WRONG:
            return word in RIGHT
        score = 0.5 if word == "p" else _number(word)  # "P": inspect's partly right
    if not isinstance(score, int | float) or not -MOST < score < MOST:
        raise Refused(
            f"{where} has the score {shown(score)}, which is neither right nor wrong", "name another by --metric"
        )
    if choice.right_at is not None:
        return score >= choice.right_at
    if score not in (0, 1):
        raise Refused(f"{where} has the score {score:g}; {GRADED}")
    return score == 1


def chosen(names: Iterable[str], choice: Choice) -> str:
    """The one score there is, or the one that was named. Raises Refused when that is not one."""
    found = sorted(set(names))
    if choice.metric:
        fits = [n for n in found if n == choice.metric] or [n for n in found if n.split(",")[0] == choice.metric]
    else:
        fits = found
    if len(fits) == 1:
        return fits[0]
    listed = ", ".join(shown(n) for n in found[:8]) or "none"
    if choice.metric and not fits:
        raise Refused(f"there is no score named {shown(choice.metric)}: there are {listed}", "name one by --metric")
    raise Refused(
        f"there are several scores, and the one that decides has to be chosen beforehand: {listed}" if fits else
        "there is no score in it", f"name it: --metric {shown(fits[0])}" if fits else ""
    )  # fmt: skip


def at(record: Mapping[str, Any], key: str, within: Sequence[str] = ()) -> str:
    """The text under a dotted path, from the record on or from one of the places `within` it. Raises Refused."""
    for start in ("", *within):
        found: Any = record
        path = key if not start else f"{start}.{key}"
        if not start and key in record:  # a column's name may hold dots
            return text(record[key])
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if found is not None:
            return text(found)
    raise Refused(f"an item has no {shown(key)}: it has {', '.join(shown(k) for k in sorted(record)[:12])}")


def text(value: object) -> str:
    """A value as one text: equal values give equal ones."""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=True)


def digest(*values: object) -> str:
    """Of values that may be long. "" when none of them is there."""
    if all(v is None or v in ("", [], {}) for v in values):
        return ""
    return sha256(json.dumps(values, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:24]


def shown(value: object) -> str:
    """Somebody's words, for a message."""
    return one_line(value if isinstance(value, str) else repr(value), 60)


def _number(word: str) -> object:
    try:
        return float(word)
    except ValueError:
        return word
