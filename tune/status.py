"""What a project has made so far: recipe and work folder in, a short table out. Reads manifests, never weights.

Stages that are unfinished, stale or being written are shown as such, and so is what killed runs left behind.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tune import artefact, checkpoint, rooms, serving, stale
from tune.artefact import Artefact
from tune.data.page import require_pages
from tune.errors import UserError
from tune.recipe import Recipe

STAGES = (  # folder, manifest, the command that makes it
    ("pages", "pages", "tune collect"),
    ("synthetic", "synthetic", "tune synthesize"),
    ("dataset", "dataset", "tune dataset"),
    ("nano", "checkpoint", "tune nano"),
    ("adapter", "adapter", "tune train"),
    ("base", "checkpoint", "tune export --format base"),
    ("merged", "checkpoint", "tune export --format merged"),
    ("mxfp4", "checkpoint", "tune export --format mxfp4"),
    ("lora", "checkpoint", "tune export --format lora"),
    ("gguf", "gguf", "tune export --format gguf"),
)
EXPORTS = {"merged", "mxfp4", "lora"}  # one of them is enough
OPTIONAL = {*EXPORTS, "gguf", "base"}  # nothing here goes on from the last two
TARGETS = "deploy"
QUESTIONS = "evalsuite questions"  # what freezes them
VERDICTS = {"PASS", "FAIL", "INCONCLUSIVE", "INVALID"}
PROOF = ("questions.jsonl", "answers.jsonl")  # what a report is made of, beside it


class Row(BaseModel):
    """One line of the table. `digest` is the first 12 characters; "" when the thing has none."""

    model_config = ConfigDict(frozen=True)

    what: str
    where: str
    digest: str = ""
    figures: str = ""


class Status(BaseModel):
    """What was made, in the order of the path, and the next command."""

    model_config = ConfigDict(frozen=True)

    rows: tuple[Row, ...]
    verdict: str
    next: str

    def text(self) -> str:
        """The table, for people."""
        cells = [("what", "where", "digest", "figures"), *((r.what, r.where, r.digest, r.figures) for r in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(3)]
        lines = [
            "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in cells
        ]
        stored = " (as stored: evalsuite gate proves it)" if self.verdict in VERDICTS else ""
        return "\n".join([*lines, "", f"verdict  {self.verdict}{stored}", f"next     {self.next}"])


def status(recipe: Recipe) -> Status:
    """Walk the work folder. The next command is that of the first stage that is missing, unfinished or stale."""
    made, problems = _made(recipe)
    old = stale.reasons(recipe, made)
    rows: list[Row] = []
    following, questions = "", list[Row]()
    for folder, _, command in STAGES:
        place = recipe.work / folder
        if folder in made:
            about = f"stale: {old[folder]}; {command}" if folder in old else headline(made[folder].figures)
            rows.append(Row(what=folder, where=str(place), digest=made[folder].digest[:12], figures=about))
        elif folder in problems and place.exists():
            rows.append(Row(what=folder, where=str(place), figures=f"unfinished: {problems[folder]}"))
        if folder == "dataset":
            rows += _page(recipe, made, old)
        if folder not in OPTIONAL and (folder in problems or folder in old):
            following = following or command
        if folder == "pages":
            questions = _questions(recipe)
            rows += questions
            if any(not row.digest for row in questions) or (recipe.evaluate.asks and not questions):
                following = following or QUESTIONS
    rows += _at_work(recipe.work)
    exports = {checkpoint.of(recipe.work / name, made[name]).served_name: name for name in made if name in EXPORTS}
    current = [name for name in exports.values() if name not in old]
    commands = {folder: command for folder, _, command in STAGES}
    if not current:
        following = following or (commands[next(iter(exports.values()))] if exports else "tune export")
    verdict, model, report = _verdict(recipe.work / "report.json", exports, questions)
    if model in old:
        following = following or commands[model]
    rows += report
    rendered = sorted(p.parent for p in (recipe.work / TARGETS).glob("*/deployment.json"))
    rows += [Row(what=f"deploy {p.name}", where=str(p)) for p in rendered]
    if following:
        pass
    elif not model:
        following = serving.command(recipe, recipe.work / current[0])
    elif verdict != "PASS":
        found = "what is not shown yet" if verdict == "INCONCLUSIVE" else "what was worse, and by how much"
        following = f"open {recipe.work / 'report.html'}: it says {found}"
    elif rendered:
        following = f"read {rendered[0] / 'README.md'}"
    else:
        proof, out = recipe.work / "report.json", recipe.work / TARGETS / "modal"
        following = f"deploy render modal --checkpoint {recipe.work / model} --report {proof} --out {out}"
    return Status(rows=tuple(rows), verdict=verdict, next=following)


def _page(recipe: Recipe, made: Mapping[str, Artefact], old: Mapping[str, str]) -> list[Row]:
    """The row of the page that shows the dataset."""
    page = recipe.work / stale.PAGE
    if not page.is_file():
        return []
    current = {"pages", "dataset"} <= made.keys() and stale.bears(page, stale.mark(recipe, made, old))
    return [
        Row(what="dataset page", where=str(page), figures="" if current else "stale: of another dataset; tune show")
    ]


def _made(recipe: Recipe) -> tuple[dict[str, Artefact], dict[str, str]]:
    """The finished stages by folder, and what is wrong with the others."""
    made, problems = {}, {}
    left_out = {"nano"} if recipe.base.model != "nano" else set()
    left_out |= {"synthetic"} if recipe.synthesis is None else set()
    for folder, kind, command in STAGES:
        if folder in left_out:
            continue
        try:
            found = artefact.read(recipe.work / folder, kind, remake=command)
            if folder in EXPORTS:
                checkpoint.of(recipe.work / folder, found)
            made[folder] = found
        except UserError as e:
            problems[folder] = e.what
    return made, problems


def _at_work(work: Path) -> list[Row]:
    """Stages that are being written now, those that go on where they were killed, and what other killed runs left."""
    commands = {folder: command for folder, _, command in STAGES}
    parts = {path: path.stem for path in sorted(work.glob("*.part")) if path.is_dir()}
    rows = []
    for folder in commands:
        if holder := rooms.holder(work / folder):
            rows.append(Row(what=folder, where=str(work / folder), figures=f"being written: {holder}"))
    running = {row.what for row in rows}
    for path, folder in {**parts, **rooms.left(work)}.items():
        if folder not in running:
            command, size = commands.get(folder, "run"), _size(path)
            figures = (
                f"unfinished: {size}; {command} resumes it"
                if path in parts
                else (f"left by a killed run: {size}; goes with the next {command}")
            )
            rows.append(Row(what=path.name, where=str(path), figures=figures))
    return rows


def _size(folder: Path) -> str:
    """Of all files in it; of what goes while it is looked at, nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return f"{total / 1e9:.1f} GB" if total >= 1e8 else f"{total / 1e6:.1f} MB"


def _questions(recipe: Recipe) -> list[Row]:
    """The frozen questions' row, from the header line; without a digest when they cannot be used."""
    path = recipe.work / "questions.jsonl"
    try:
        with path.open(encoding="utf-8") as f:
            head = json.loads(f.readline())
        row = Row(what="questions", where=str(path), digest=head["digest"][:12], figures=f"questions {head['count']}")
        made = dict(head.get("made", {}))
        recipe.evaluate.require_questions(path, made)
        require_pages(path, made, recipe.work / "pages")
    except FileNotFoundError:
        return []
    except UserError as e:
        why = " ".join((e.why or e.what).split())
        row = Row(what="questions", where=str(path), figures=f"stale: {why}; {QUESTIONS}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        row = Row(what="questions", where=str(path), figures="unreadable")
    return [row]


def _verdict(path: Path, exports: Mapping[str, str], questions: Sequence[Row]) -> tuple[str, str, list[Row]]:
    """The verdict as the report states it, the export that it is about or "", and the report's rows.

    `evalsuite gate` and `deploy` have it judged again from the replies; here it counts if the file is as it was written
    and its proof still lies beside it.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        outcome, digest, model = str(data["verdict"]["outcome"]), str(data["digest"]), str(data["tuned_model"])
    except FileNotFoundError:
        return "none yet", "", []
    except (ValueError, KeyError, TypeError, RecursionError):
        return "none: report.json cannot be read", "", [Row(what="report", where=str(path), figures="unreadable")]
    del data["digest"]
    unproven = [Row(what="report", where=str(path), figures="unproven")]
    if hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest() != digest:
        return "none: report.json was changed after it was written", "", unproven
    if lacking := [name for name in PROOF if not path.with_name(name).is_file()]:
        return f"none: report.json lies without its {' and '.join(lacking)}", "", unproven
    rows = [Row(what="report", where=str(path), digest=digest[:12], figures=f"{outcome} of {model}")]
    page = path.with_suffix(".html")
    rows += [Row(what="report page", where=str(page))] if page.is_file() else []
    if model not in exports:
        return f"none: report.json is about {model}", "", rows
    if any(not str(data.get("questions_digest", "")).startswith(row.digest) for row in questions):
        return "none: report.json is of other questions", "", rows
    return outcome, exports[model], rows


def headline(figures: Mapping[str, Any], most: int = 2) -> str:
    """The first figures in one line: "rows train 4599 eval 626, steps 60"."""
    shown = []
    for key, value in list(figures.items())[:most]:
        parts = value.items() if isinstance(value, dict) else [("", value)]
        words = [key.replace("_", " "), *(f"{k} {_short(v)}".strip() for k, v in list(parts)[:3])]
        shown.append(" ".join(words))
    return ", ".join(shown)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
