"""A second opinion beside our own: the same endpoint under the same load, measured by us and by another tool.

In: a Target and a load. Out: a Pair, and a Pair as a Markdown table. The tool comes after us, with the same prompts but
for their first word, so that no prefix cache answers it.
"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from evalsuite.speed.bench import Bench, bench
from evalsuite.speed.client import Target
from evalsuite.speed.engines.asked import Asked
from evalsuite.speed.engines.run import Installed, Opinion, opinion
from evalsuite.speed.load import Line, Load
from evalsuite.speed.metrics import Distribution, Figures, Frozen, Limits
from evalsuite.speed.prompts import LENGTHS, Sent, made, sent
from tune.section import EffortName

HEADS = ("tool", "ok / failed", "TTFT p50 / p95 / p99, ms", "TPOT p50, ms", "end to end p50 / p95 / p99, ms",
         "output tokens/s")  # fmt: skip
COLUMNS = {"ttft": 2, "tpot": 3, "e2e": 4, "tokens": 5}  # what a note is about -> where it stands
UNCOUNTED = "{tool}: the server did not say how many tokens there were"
WARMUP = 2


class Pair(Frozen):
    """`bench` is ours, one block of all requests; `sent` is what both were sent, warm-up included."""

    bench: Bench
    opinion: Opinion
    sent: Sent


def second(
    tool: str,
    found: Installed,
    target: Target,
    load: Load,
    *,
    requests: int,
    prompts: Sequence[str] | None = None,
    prompt_tokens: str = LENGTHS,
    max_tokens: int = 128,
    effort: EffortName = "low",
    seed: int = 0,
    limits: Limits | None = None,
    report: Line = lambda _line: None,
) -> Pair:
    """Measure with our engine, then with the tool. Raises UserError as `bench` and `opinion` do."""
    count = requests + WARMUP
    if prompts is None:
        texts = made(count + requests, prompt_tokens, seed=seed)
        ours = texts[:count]
        theirs = tuple(swapped(text, other) for text, other in zip(ours, texts[count:], strict=False))
    else:
        ours = tuple(prompts[i % len(prompts)] for i in range(count))
        theirs = ours[:requests]
    measured = bench(target, blocks=1, requests=requests, rate=load.rate, concurrency=load.concurrency,
                     arrivals=load.arrivals, trace=load.trace, prompts=ours, max_tokens=max_tokens, effort=effort,
                     seed=seed, warmup=WARMUP, timeout_s=load.timeout_s, limits=limits, report=report)  # fmt: skip
    report(f"{tool} {found.version}: {requests} requests")
    asked = Asked(prompts=theirs, load=load, max_tokens=max_tokens, effort=effort, seed=seed)
    said = opinion(tool, found, target, asked)
    return Pair(bench=measured, opinion=said, sent=sent([*ours, *theirs], "" if prompts else prompt_tokens, seed))


def swapped(text: str, other: str) -> str:
    """The text with the first word of the other: as many tokens, and no beginning in common."""
    return f"{other.partition(' ')[0]} {text.partition(' ')[2]}"


def table(found: Pair) -> str:
    """Both as a Markdown table, footnotes below it, and why ours is void, if it is."""
    ours, theirs = found.bench.arms["base"].pooled, found.opinion
    notes = dict(theirs.notes)
    cells = row(f"{theirs.tool} {theirs.version}", theirs.figures)
    if theirs.figures.ttft_s and not theirs.figures.output_tokens:
        notes["tokens"] = (
            *notes.get("tokens", ()),
            UNCOUNTED.format(tool=theirs.tool),
        )
    shown = {at: notes[column] for column, at in COLUMNS.items() if column in notes and theirs.figures.ttft_s}
    numbers = {note: number for number, note in enumerate(dict.fromkeys(n for ns in shown.values() for n in ns), 1)}
    for at, found_notes in shown.items():
        cells[at] += "".join(f" [{numbers[note]}]" for note in found_notes)
    lines = [HEADS, ("---", *["--:"] * (len(HEADS) - 1)), row(f"evalsuite {own_version()}", ours), cells]
    out = [f"| {' | '.join(line)} |" for line in lines]
    out += ["", *(f"[{number}] {note}" for note, number in numbers.items())]
    errors = ", ".join(f"{n} x {kind}" for kind, n in theirs.figures.errors.items())
    out += [f"{theirs.tool}, failed: {errors}"] if errors else []
    out += [found.sent.note] if found.sent.note else []
    out += [note for note in found.bench.notes if note != found.bench.prompts.note]
    out += [f"void: {reason}" for reason in found.bench.void]
    return "\n".join(out).rstrip()


def row(name: str, found: Figures) -> list[str]:
    """The cells of one tool."""
    failed = sum(found.errors.values())
    return [
        name,
        f"{found.requests - failed} / {failed}",
        _three(found.ttft_s),
        f"{found.tpot_s.p50 * 1e3:.1f}" if found.tpot_s else "n/a",
        _three(found.e2e_s),
        f"{found.output_tokens_per_s:,.1f}" if found.output_tokens else "n/a",
    ]


def _three(found: Distribution | None) -> str:
    return " / ".join(f"{s * 1e3:.1f}" for s in (found.p50, found.p95, found.p99)) if found else "n/a"


def own_version() -> str:
    """Ours; "" where it is run from its source."""
    try:
        return version("gptoss-kit")
    except PackageNotFoundError:
        return ""
