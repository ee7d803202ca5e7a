"""The live line of a comparison: what it says, how often, and that it fits a terminal."""

from pathlib import Path

from arms import question_set, run, stub

from evalsuite.asking.progress import RECENT, SHOWN, Meter
from tune.terminal import COLUMNS


def test_a_line_says_answers_failures_rate_and_time_left() -> None:
    meter = Meter(400, live=True)
    lines = [meter.add(n / 4, failed=n in {3, 5}) or "" for n in range(1, 401)]
    assert lines[0] == f"[{'.' * 24}] 1 of 400 answers"
    assert lines[1] == f"[{'.' * 24}] 2 of 400 answers, 4/s, 2 min left"
    assert lines[199] == f"[{'#' * 12}{'.' * 12}] 200 of 400 answers, 2 failed, 4/s, 50 s left"
    assert lines[399] == f"[{'#' * 24}] 400 of 400 answers, 2 failed, 4/s"
    assert all(len(line) <= COLUMNS for line in lines)


def test_the_rate_is_of_the_recent_answers() -> None:
    meter = Meter(10_000, live=True)
    for n in range(1, 1001):
        meter.add(n / 100, failed=False)
    for n in range(1, RECENT + 1):
        line = meter.add(10 + n * 2, failed=False)
    assert str(line).endswith(", 0.5/s, 4 h 57 min left")


def test_a_log_gets_a_line_each_five_percent() -> None:
    for total in (1, 7, 20, 1000, 1999):
        meter = Meter(total)
        shown = [line for n in range(total) if (line := meter.add(float(n), failed=False))]
        assert len(shown) <= 2 * SHOWN
        assert f" {total} of {total} answers" in shown[-1]
    assert len(shown) <= SHOWN + 1


def test_on_a_terminal_every_answer_is_shown_and_the_last_stays(tmp_path: Path) -> None:
    asked, kept, live = question_set(30), list[str](), list[str]()
    with stub(tmp_path, asked) as url:
        run(url, asked, tmp_path / "answers.jsonl", report=kept.append, live=live.append)
    assert [line.partition("] ")[2].split()[0] for line in live] == [str(n) for n in range(1, 120)]
    assert [line for line in kept if " answers" in line and "] 120 of 120 answers" in line]
    assert sum(" of 120 answers" in line for line in kept) == 1
