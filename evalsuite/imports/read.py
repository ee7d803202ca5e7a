"""Which tool wrote a file, and the items in it. The one place that opens one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from evalsuite.imports import decode, inspect_ai, jsonl, lm_eval, mlflow, promptfoo
from evalsuite.imports.item import Choice, Item, Refused
from tune.errors import UserError

Format = Literal["lm-eval", "inspect", "promptfoo", "mlflow", "jsonl"]
MATCHES: dict[Format, Callable[[Any], bool]] = {  # in this order: the last is the least particular
    "lm-eval": lm_eval.matches,
    "inspect": inspect_ai.matches,
    "promptfoo": promptfoo.matches,
    "mlflow": mlflow.matches,
    "jsonl": jsonl.matches,
}


def read(
    paths: Sequence[Path], written: Format | None, choice: Choice, like: Format | None = None
) -> tuple[Format, list[Item]]:
    """The items of all files of one run, and the tool that wrote them; `written` None: told from what is in them, and
    where nothing tells it, the tool of the other run, `like`.

    Raises UserError for what cannot be read, and for files of two tools, in one run or in both.
    """
    out, tools = list[Item](), dict[Format, Path]()
    for path in paths:
        if path.is_dir():
            within = sorted(path.rglob("samples_*.jsonl"))[:8]
            fix = f"give {', '.join(map(str, within))}" if within else "give the results file in it"
            raise UserError(f"{path} is a folder, and a run is judged by its files", fix=fix)
        try:
            tool, found = parsed(_bytes(path), path.name, written, choice, like)
        except Refused as e:
            fix = e.fix or f"give a results file of {', '.join(get_args(Format))}"
            raise UserError(f"{path} cannot be judged", why=e.why, fix=fix) from None
        tools[tool] = path
        out += found
    if len(tools) > 1:
        raise UserError(
            "the files of one run are of two tools",
            why="; ".join(f"{path} is of {tool}" for tool, path in tools.items()),
            fix="give files of one tool, or name it by --format",
        )
    if len(out) > decode.MOST_ITEMS:
        raise UserError(f"more than {decode.MOST_ITEMS} items are not judged", fix="give fewer files")
    return next(iter(tools)), out


def parsed(
    data: bytes, name: str, written: Format | None, choice: Choice, like: Format | None = None
) -> tuple[Format, list[Item]]:
    """The same of one file's bytes. Raises Refused, and nothing else, whatever the bytes are."""
    try:
        tool, items = _parsed(data, name, written, choice, like)
    except RecursionError:  # of the parser, or of the digest of what it still could read
        raise Refused("it is nested too deeply") from None
    if not items:
        raise Refused("it holds no item")
    return tool, items


def _parsed(
    data: bytes, name: str, written: Format | None, choice: Choice, like: Format | None
) -> tuple[Format, list[Item]]:
    if decode.is_zip(data):
        if written not in (None, "inspect"):
            raise Refused(f"it is a zip, and no file of {written} is")
        _same("inspect", like)
        return "inspect", inspect_ai.items(inspect_ai.unpacked(data), choice)
    found = decode.document(data)
    tool = written or next((tool for tool, fits in MATCHES.items() if fits(found)), like)
    if tool is None:
        raise Refused("none of the known tools writes files like it", "name the tool by --format, or write "
                      'lines like {"id": "q1", "right": true}')  # fmt: skip
    if written is None:
        _same(tool, like)
    return tool, _items(tool, found, name, choice)


def _same(tool: Format, like: Format | None) -> None:
    if like and tool != like:
        fix = "run both models in one tool, or name it by --format"
        raise Refused(f"it is of {tool}, and the other run of {like}: two tools' items are no pairs", fix)


def _items(tool: Format, found: Any, name: str, choice: Choice) -> list[Item]:
    if tool == "lm-eval":
        return lm_eval.items(decode.records(found), name, choice)
    if tool == "inspect":
        if not isinstance(found, dict):
            raise Refused("a log of inspect is one JSON object")
        return inspect_ai.items(found, choice)
    if tool == "promptfoo":
        return promptfoo.items(decode.records(promptfoo.results(found)), choice)
    if tool == "mlflow":
        return mlflow.items(mlflow.rows(found), choice)
    return jsonl.items(decode.records(found), choice)


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(decode.MOST_BYTES + 1)
    if len(data) > decode.MOST_BYTES:
        raise Refused(f"it is larger than {decode.MOST_BYTES // 2**20} MiB", "give the run in several files")
    return data
