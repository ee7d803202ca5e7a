"""Which rows a dataset leaves out, and why: counted by reason, and the first of each reason shown.

In: examples with a reason. Out: lines of dropped.jsonl, without the secrets and personal data that they hold. Knows
texts and no filters.
"""

from collections import Counter
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from tune.data import personal, secrets
from tune.data.examples import Example

FILE = "dropped.jsonl"
MOST = 20  # shown of one reason
LONGEST = 400  # characters of a question or an answer


class Dropped(BaseModel):
    """One row that was left out. `detail` is what exactly: the words that a held-out question shares, the other row's
    id, the kind of a secret. `question` and `answer` are cut, with `[...]` for secrets and personal data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: str
    page: str
    reason: str
    detail: str
    question: str
    answer: str


class Told(BaseModel):
    """A tally as it is kept in a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: dict[str, int]
    shown: dict[str, tuple[Dropped, ...]]


class Tally:
    """What has been dropped so far: `counts` by reason, and the first MOST rows of each, in the order they came."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._shown: dict[str, list[Dropped]] = {}

    @property
    def told(self) -> Told:
        return Told(counts=self.counts, shown={reason: tuple(rows) for reason, rows in self._shown.items()})

    def extend(self, told: Told) -> None:
        """Add what came after all that has been dropped so far."""
        for reason, rows in told.shown.items():
            shown = self._shown.setdefault(reason, [])
            shown += rows[: MOST - len(shown)]
        self.counts.update(told.counts)

    def count(self, reason: str) -> bool:
        """Whether a row of this reason would no longer be shown: it is counted then, and what it says is not needed."""
        full = self.counts[reason] >= MOST
        self.counts[reason] += full
        return full

    def add(self, example: Example, reason: str, detail: str = "") -> None:
        """Count an example, and keep it to be shown if there is room."""
        question, answer = "", example.messages[-1].content if example.messages else ""
        if self.counts[reason] < MOST:
            question = next((m.content for m in reversed(example.messages) if m.role == "user"), "")
        self._add(example.id, example.kind, example.page, reason, detail, question, answer)

    def refuse(self, id: str, kind: str, reason: str, detail: str) -> None:
        """Count what never became an example."""
        self._add(id, kind, id, reason, detail, "", "")

    def lines(self) -> Iterator[str]:
        """What is shown, a line each, by reason."""
        for _, rows in sorted(self._shown.items()):
            yield from (row.model_dump_json() + "\n" for row in rows)

    def _add(self, id: str, kind: str, page: str, reason: str, detail: str, question: str, answer: str) -> None:
        self.counts[reason] += 1
        if self.counts[reason] <= MOST:
            shown = [shortened(text) for text in (detail, question, answer)]
            row = Dropped(
                id=id, kind=kind, page=page, reason=reason, detail=shown[0], question=shown[1], answer=shown[2]
            )
            self._shown.setdefault(reason, []).append(row)


def shortened(text: str) -> str:
    """A text as it may be shown to anybody, at most LONGEST characters: masked first, or half a key would stay."""
    text = text.encode("utf-8", "backslashreplace").decode()  # half a character of a bad row is no text
    clean = secrets.masked(text, [*secrets.found(text), *personal.found(text)])
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"
