"""What a project has made so far: recipe and work folder in, a short table out. Reads manifests, never weights."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tune import artefact, checkpoint
from tune.errors import UserError
from tune.recipe import Recipe

STAGES = (  # folder, manifest, the command that makes it
    ("pages", "pages", "tune collect"),
    ("dataset", "dataset", "tune dataset"),
    ("nano", "checkpoint", "tune nano"),
    ("adapter", "adapter", "tune train"),
    ("merged", "checkpoint", "tune export --format merged"),
    ("mxfp4", "checkpoint", "tune export --format mxfp4"),
    ("lora", "checkpoint", "tune export --format lora"),
)
OPTIONAL = {"merged", "mxfp4", "lora"}  # one of them is enough
TARGETS = "deploy"
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
    """Walk the work folder. An unfinished or spoilt stage is shown as such, never hidden."""
    rows: list[Row] = []
    exports: dict[str, Path] = {}  # by the name that a report calls them
    following = ""
    for folder, kind, command in STAGES:
        if folder == "nano" and recipe.base.model != "nano":
            continue
        place = recipe.work / folder
        try:
            made = artefact.read(place, kind, remake=command)
            if folder in OPTIONAL:
                exports[checkpoint.of(place, made).served_name] = place
        except UserError as e:
            if place.exists():
                rows.append(Row(what=folder, where=str(place), figures=f"unfinished: {e.what}"))
            if folder not in OPTIONAL:
                following = following or command
        else:
            rows.append(Row(what=folder, where=str(place), digest=made.digest[:12], figures=headline(made.figures)))
        if folder == "pages":
            questions = _questions(recipe.work / "questions.jsonl")
            rows += questions
            if recipe.evaluate.modules and not any(row.digest for row in questions):
                following = following or "evalsuite questions"
    following = following or ("" if exports else "tune export")
    verdict, about, report = _verdict(recipe.work / "report.json", exports)
    rows += report
    rendered = sorted(p.parent for p in (recipe.work / TARGETS).glob("*/deployment.json"))
    rows += [Row(what=f"deploy {p.name}", where=str(p)) for p in rendered]
    if following:
        pass
    elif about is None:
        following = f"serve run {next(iter(exports.values()))}"
    elif verdict != "PASS":
        found = "what is not shown yet" if verdict == "INCONCLUSIVE" else "what was worse, and by how much"
        following = f"open {recipe.work / 'report.html'}: it says {found}"
    elif rendered:
        following = f"read {rendered[0] / 'README.md'}"
    else:
        proof, out = recipe.work / "report.json", recipe.work / TARGETS / "modal"
        following = f"deploy render modal --checkpoint {about} --report {proof} --out {out}"
    return Status(rows=tuple(rows), verdict=verdict, next=following)


def _questions(path: Path) -> list[Row]:
    """The frozen questions' row, from the header line; without a digest when it cannot be read."""
    try:
        with path.open(encoding="utf-8") as f:
            head = json.loads(f.readline())
        row = Row(what="questions", where=str(path), digest=head["digest"][:12], figures=f"questions {head['count']}")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        row = Row(what="questions", where=str(path), figures="unreadable")
    return [row]


def _verdict(path: Path, exports: Mapping[str, Path]) -> tuple[str, Path | None, list[Row]]:
    """The verdict as the report states it, the export that it is about, and the report's rows.

    `evalsuite gate` and `deploy` have it judged again from the replies; here it counts if the file is as it was written
    and its proof still lies beside it.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        outcome, digest, model = str(data["verdict"]["outcome"]), str(data["digest"]), str(data["tuned_model"])
    except FileNotFoundError:
        return "none yet", None, []
    except (ValueError, KeyError, TypeError, RecursionError):
        return "none: report.json cannot be read", None, [Row(what="report", where=str(path), figures="unreadable")]
    del data["digest"]
    unproven = [Row(what="report", where=str(path), figures="unproven")]
    if hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest() != digest:
        return "none: report.json was changed after it was written", None, unproven
    if lacking := [name for name in PROOF if not path.with_name(name).is_file()]:
        return f"none: report.json lies without its {' and '.join(lacking)}", None, unproven
    rows = [Row(what="report", where=str(path), digest=digest[:12], figures=f"{outcome} of {model}")]
    page = path.with_suffix(".html")
    rows += [Row(what="report page", where=str(page))] if page.is_file() else []
    if model not in exports:
        return f"none: report.json is about {model}", None, rows
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
