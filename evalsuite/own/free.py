"""A team's own question that is answered in prose: the cells of its row in, the question or why it is none out.

Its points are phrases, to be found as they stand, and no patterns: `"closes the file"`, `{"any": ["a", "b"]}`, and of a
false claim `{"not": "it is deleted"}`.
"""

import json
from collections.abc import Mapping

from pydantic import JsonValue

from evalsuite.balance import name
from evalsuite.questions import ADVICE, Point, Question
from evalsuite.replies.points import phrase
from tune.terminal import one_line

MOST, LONGEST = 20, 200  # points of a question, and characters of a phrase
NOT_HERE = ("answer", "grader", "guess")


def question(cells: Mapping[str, str], *, kind: str, module: str) -> Question | str:
    """`cells`: of a row that has a prompt, and points as JSON; `kind` and `module` stand in where it has none."""
    if other := [key for key in NOT_HERE if key in cells]:
        return f"has points and {other[0]}: one or the other says what is right"
    if cells.get("split", ADVICE) != ADVICE:
        return f'has points, and its split is not "{ADVICE}"'
    points = _points(json.loads(cells["points"]))
    if isinstance(points, str):
        return points
    prompt, kind = cells["prompt"].strip(), cells.get("kind", kind).strip()
    return Question(
        id=cells.get("id", name(kind, prompt)).strip(),
        kind=kind,
        module=cells.get("module", module).strip(),
        prompt=prompt,
        answer="",
        grader="exact",
        split=ADVICE,
        developer=cells.get("developer", "").strip(),
        points=points,
    )


def _points(given: JsonValue) -> tuple[Point, ...] | str:
    if not isinstance(given, list) or not 0 < len(given) <= MOST:
        return f"points is no list of 1 to {MOST} points"
    out = []
    for each in given:
        phrases = _phrases(each)
        if not phrases or not all(isinstance(p, str) and phrase(p) and len(p) <= LONGEST for p in phrases):
            what = one_line(json.dumps(each, ensure_ascii=False), 60)
            return f'{what} is no point: a phrase of at most {LONGEST} characters, {{"any": [...]}} or {{"not": "..."}}'
        said = [" ".join(str(p).split()) for p in phrases]
        out.append(
            Point(says=" / ".join(said), any=tuple(map(phrase, said)), false=isinstance(each, dict) and "not" in each)
        )
    return tuple(out)


def _phrases(point: JsonValue) -> list[JsonValue]:
    if not isinstance(point, dict):
        return [point]
    some = point.get("any", point.get("not")) if len(point) == 1 else None
    if "any" in point:
        return some if isinstance(some, list) else []
    return [some]
