"""CONTRACT: advice.json, what another model prefers of two free-text answers: opinions in, counts and a p-value out.

It lies beside report.json, names its digest, and is no part of it. Decides nothing.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from evalsuite.judging.paired import Part
from tune.artefact import write_text
from tune.errors import UserError, reason
from tune.section import EffortName

SCHEMA = 1
FILE = "advice.json"  # beside the report
Letter = Literal["A", "B", "tie"]
Outcome = Literal["win", "loss", "tie", "none"]  # of tuned


class Pair(Part):
    """Two answers to one question, held against each other twice."""

    question: str
    effort: EffortName
    outcome: Outcome


class Row(Part):
    """One effort: how often tuned was preferred, base was, neither, and how often the judge gave no opinion."""

    effort: EffortName
    wins: int
    losses: int
    ties: int
    none: int
    p: float  # two-sided


class Opinions(Part):
    """Of one judge on one report."""

    schema_version: int = SCHEMA
    report: str  # its digest
    judge: str  # model at address
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]

    @property
    def digest(self) -> str:
        """sha256 over the contents, 64 hex characters."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def agreed(base_first: Letter | None, tuned_first: Letter | None) -> Outcome:
    """A preference that depends on the order is none. None: the judge gave no opinion."""
    if base_first is None or tuned_first is None:
        return "none"
    sides: Mapping[tuple[Letter, Letter], Outcome] = {("B", "A"): "win", ("A", "B"): "loss"}
    return sides.get((base_first, tuned_first), "tie")


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p of H0: a preference is as likely for either. Ties say nothing; 1 without a preference."""
    n = wins + losses
    as_few: int = sum(comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, float(Fraction(2 * as_few, 1 << n)))


def rows(pairs: Sequence[Pair], efforts: Sequence[EffortName]) -> tuple[Row, ...]:
    """One an effort: the same question at two efforts is no second question."""
    out = []
    for effort in efforts:
        n = Counter(pair.outcome for pair in pairs if pair.effort == effort)
        p = sign_test(n["win"], n["loss"])
        out.append(Row(effort=effort, wins=n["win"], losses=n["loss"], ties=n["tie"], none=n["none"], p=p))
    return tuple(out)


def write(path: Path, opinions: Opinions) -> None:
    """Write advice.json: the opinions and their digest."""
    write_text(path, json.dumps({"digest": opinions.digest, **opinions.model_dump(mode="json")}, indent=1) + "\n")


def beside(path: Path, report: str) -> Opinions | None:
    """Those in the folder of the report at `path`, if they are about the report of this digest.

    Raises UserError for a file that is damaged or was changed.
    """
    file = path.with_name(FILE)
    if not file.is_file():
        return None
    again = f"evalsuite advise {path} --judge URL"
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        digest = data.pop("digest")
        if data["schema_version"] != SCHEMA or data["report"] != report:
            return None
        found = Opinions.model_validate(data)
    except ValidationError as e:
        raise UserError(f"{file} holds no opinions", why=reason(e), fix=again) from None
    except (KeyError, AttributeError, TypeError, ValueError, RecursionError) as e:
        raise UserError(f"{file} holds no opinions", why=f"damaged: {e}", fix=again) from None
    if found.digest != digest:
        raise UserError(f"{file} was changed after it was written", why="its digest differs", fix=again)
    return found
