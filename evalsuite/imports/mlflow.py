"""MLflow: `eval_results_table.json` of mlflow.evaluate (columns and data), and the rows of mlflow.genai.evaluate.

mlflow.evaluate writes a table as pandas does with orient="split", a column "NAME/score" a metric; the result_df
of mlflow.genai.evaluate, saved with orient="records", "split" or as lines, has "NAME/value", or a list of assessments.
A trace's id is another in each run, so items are paired by their inputs.
"""

from collections.abc import Sequence
from typing import Any

from evalsuite.imports.decode import records
from evalsuite.imports.item import Choice, Item, Refused, at, chosen, digest, right, shown, text

ENDS = ("/value", "/score")
INPUTS, REPLIES = ("inputs", "request", "question", "prompt"), ("outputs", "response", "predictions")
EXPECTED = ("expectations", "targets", "target", "ground_truth")
WITHIN = ("inputs", "request", "tags", "expectations")


def matches(found: Any) -> bool:
    if isinstance(found, dict):
        return isinstance(found.get("columns"), list) and isinstance(found.get("data"), list)
    first = found[0] if isinstance(found, list) and found else None
    return isinstance(first, dict) and ("assessments" in first or any(str(k).endswith(ENDS) for k in first))


def rows(found: Any) -> list[dict[str, Any]]:
    """One object a row, of either shape. Raises Refused."""
    if not isinstance(found, dict) or "columns" not in found:
        return records(found)
    columns, data = found["columns"], found.get("data")
    if not isinstance(columns, list) or not isinstance(data, list) or not all(isinstance(c, str) for c in columns):
        raise Refused("its columns are no list of names")
    if len(set(columns)) < len(columns):
        raise Refused("two of its columns have one name")
    for n, row in enumerate(data, 1):
        if not isinstance(row, list) or len(row) != len(columns):
            raise Refused(f"row {n} has not as many values as there are columns")
    return records([dict(zip(columns, row, strict=True)) for row in data])


def items(table: Sequence[dict[str, Any]], choice: Choice) -> list[Item]:
    scores = [_scores(row) for row in table]
    metric = chosen([name for found in scores for name in found], choice) if table else ""
    return [_item(row, found.get(metric), choice) for row, found in zip(table, scores, strict=True)]


def _item(row: dict[str, Any], score: object, choice: Choice) -> Item:
    asked = _first(row, INPUTS)
    if choice.id:
        place = at(row, choice.id, WITHIN)
    elif asked is not None:
        place = digest(asked)
    elif row.get("request_id") is not None:
        place = text(row["request_id"])
    else:
        columns = ", ".join(shown(k) for k in sorted(row)[:12])
        raise Refused(f"a row has no inputs: it has {columns}", "name the column that pairs the runs by --id")
    return Item(
        id=place,
        module=at(row, choice.module, WITHIN) if choice.module else "",
        right=right(score, choice, f"the row {shown(place)}"),
        prompt=digest(asked, _first(row, EXPECTED)),
        reply=digest(_first(row, REPLIES)),
        answer=digest(_first(row, EXPECTED)),
    )


def _scores(row: dict[str, Any]) -> dict[str, Any]:
    """By name, without the ending. Of the assessments, feedback alone is a score; one that failed is none."""
    found, listed = dict[str, Any](), row.get("assessments")
    for one in listed if isinstance(listed, list) else []:
        name, feedback = (one.get("assessment_name"), one.get("feedback")) if isinstance(one, dict) else (None, None)
        if isinstance(name, str) and isinstance(feedback, dict):
            found[name] = None if feedback.get("error") else feedback.get("value")
    for key, value in row.items():
        for end in ENDS:
            if key.endswith(end):
                found[key.removesuffix(end)] = value
    return found


def _first(row: dict[str, Any], names: Sequence[str]) -> object:
    return next((row[n] for n in names if row.get(n) is not None), None)
