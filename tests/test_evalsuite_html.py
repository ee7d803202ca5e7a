"""The page: everything in the report is on it, nothing in the report can run, nothing is fetched."""

import hashlib
import re
import shutil
import subprocess
from base64 import b64encode
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from evaluation import ARMS, Some, asked_of, both, built, flipped, question, question_set, reply, several

from evalsuite import report
from evalsuite.questions import QuestionSet
from evalsuite.replies.answers import Arm, Reply
from evalsuite.views import html
from evalsuite.views.axis import around

HOSTILE = "</pre></details><script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"
NOTE = "A nano model proves the path, not quality."
EFFORTS = ("low", "medium", "high")


def made(n: int = 120, *, text: str = HOSTILE, errors: int = 0, answered: bool = True, **more) -> report.Report:
    set_ = QuestionSet(
        name="python-docs",
        python="3.11.7",
        questions=tuple(question(i, "kind <b>x</b>", prompt=f"P{i} {text}", answer=text, guess=0.1) for i in range(n)),
    )

    def told(i: int, k: int, arm: Arm) -> Reply:
        right = (i + (arm == "tuned")) % 5 > 1
        figures = {"reasoning_tokens": (k + 1) * 10, "completion_tokens": 50}
        times = {"first_token_s": 0.04, "first_answer_s": 1.5, "total_s": 2.0}
        said = {"text": f"{text}\nANSWER: {text if right else 'no'}"} if i >= errors else {}
        outcome = "error" if i < errors else "answered"
        return reply(set_.questions[i], arm, EFFORTS[k], outcome=outcome, **figures, **times, **said)

    replies = [told(i, k, arm) for i in range(n if answered else 0) for k in range(3) for arm in ARMS]
    rows = (report.SpeedRow(metric="TTFT, p95", unit="ms", base=412.0, tuned=430.0, ratio=1.04, interval=(0.98, 1.11)),)
    given = {"created": "2026-11-21", "margin": 0.05, "alpha": 0.05, "note": NOTE, "provenance": {"vllm": text}}
    load = report.Throughput(load="2 requests/s", rows=rows, void="p99 emit lag")
    asked = asked_of(set_, "docs-base@0123456789abcdef", "docs-tuned@123456789abcdef0")
    return built(set_, replies, asked, **(given | {"throughput": load} | more))


class Page(HTMLParser):
    """Collects tags, attributes and text; refuses tags that are not closed in order."""

    VOID = ("meta", "br", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in {"th", "td", "dt", "dd"}:
            self.text += " "

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


def test_the_page_says_what_the_report_says():
    r = made()
    text = text_of(r)
    for reason in r.verdict.reasons:
        assert " ".join(reason.split()) in text
    c = r.comparisons[0]
    for part in (
        r.verdict.outcome,
        NOTE,
        r.questions_digest,
        r.digest,
        "docs-tuned@123456789abcdef0",
        f"{c.lost} lost, {c.gained} gained",
        f"{c.base.accuracy:.1%}".replace("%", " %"),
        "TTFT, p95 412 ms 430 ms 1.04 (0.98 to 1.11)",
        "p99 emit lag",
        "base: low to medium 2.0 times as long, medium to high 1.5 times as long.",
        "1.50 s",
    ):
        assert part in text, part
    assert HOSTILE.split("{{")[0] in text


def text_of(r: report.Report) -> str:
    return " ".join(Page(html.render(r)).text.split())


def test_base_stands_before_tuned_in_every_table():
    """Base gets 10 of 100 wrong, all of one kind, tuned 25 of the other kind."""
    set_ = question_set(100, kinds=2)
    r = built(set_, both(set_, lambda arm, i: i % 10 == 0 if arm == "base" else i % 4 == 1))
    text = text_of(r)
    assert "kind0 80.0 % → 100.0 %50 asked, +20.0 " in text
    assert "kind1 100.0 % → 50.0 %50 asked, −50.0 " in text
    assert "low 90.0 % 75.0 % " in text
    [(lost, gained)] = {(c.lost, c.gained) for c in r.comparisons}
    assert f"low: {lost} lost, {gained} gained of 100" in text
    assert (lost, gained) == (25, 10)


def test_the_worst_case_is_of_whatever_the_gate_looks_at():
    """Hardly a right answer less, and every fifth reply not to be read: the tile says what the verdict says."""
    set_ = question_set(400)
    silent = built(set_, flipped(set_, 2, 2, base_right=240, silent=(80, 0)))
    wrong = built(set_, flipped(set_, 80, 2, base_right=240))
    for r, name, words in ((silent, "answering", "readable answers"), (wrong, "accuracy", "right answers")):
        assert [c.name for c in r.verdict.checks if c.outcome == "FAIL"] == [name]
        [c] = r.comparisons
        lower = {"accuracy": c.difference, "answering": c.answering}[name].lower
        assert lower < -0.2
        assert f"Worst case −{-lower * 100:.1f}points, lower bound of {words} at low" in text_of(r)


def test_the_worst_case_is_that_of_the_worst_effort():
    set_ = question_set(400)
    lost = {"low": 2, "medium": 60, "high": 20}
    r = built(set_, [told for e, n in lost.items() for told in flipped(set_, n, 2, base_right=240, effort=e)])
    lower = r.comparisons[1].difference.lower
    assert f"Worst case −{-lower * 100:.1f}points, lower bound of right answers at medium" in text_of(r)


def test_the_worst_case_is_over_all_kinds_where_these_decide():
    """Not worse where base does more than guess, and a third of the answers lost at which it guesses."""
    set_, told = several(Some(600, 570, 2, 2, "known"), Some(400, 120, 120, 0, "guessed", guess=0.28))
    r = built(set_, told)
    assert r.verdict.reasons[0].startswith("low, right answers of all kinds")
    [c] = r.comparisons
    assert c.claims[0].difference.lower > -0.02
    words = f"Worst case −{-c.difference.lower * 100:.1f}points, lower bound of right answers of all kinds at low"
    assert words in text_of(r)


def test_a_small_loss_over_all_kinds_leaves_the_worst_case_to_the_claims():
    set_, told = several(Some(600, 570, 2, 2, "known"), Some(400, 120, 12, 2, "guessed", guess=0.28))
    r = built(set_, told)
    [c] = r.comparisons
    assert c.guessed == ("guessed",)
    assert (r.verdict.outcome, c.difference.upper < 0) == ("PASS", True)
    assert "lower bound of right answers at low" in text_of(r)


@pytest.mark.parametrize(
    ("tokens", "words", "warned"),
    [
        ((100, 190, 300), "tuned: low to medium 1.9 times as long, medium to high 1.6 times as long.", False),
        (
            (100, 190, 190),
            "tuned: low to medium 1.9 times as long, medium to high 1.0 times as long; effort does not steer from "
            "medium to high.",
            True,
        ),
        (
            (100, 100, 50),
            "tuned: low to medium 1.0 times as long, medium to high 0.5 times as long; effort does not steer from "
            "low to medium, nor from medium to high.",
            True,
        ),
        (
            (0, 0, 50),
            "tuned: low to medium no reasoning, medium to high begins to reason; effort does not steer from low "
            "to medium.",
            True,
        ),
    ],
)
def test_each_step_of_effort_is_named_that_does_not_steer(tokens, words, warned):
    set_ = question_set(3)
    thinks = {"base": (10, 20, 30), "tuned": tokens}
    told = [
        reply(q, arm, e, reasoning_tokens=thinks[arm][k])
        for k, e in enumerate(EFFORTS)
        for q in set_.questions
        for arm in ARMS
    ]
    r = built(set_, told)
    assert words in text_of(r)
    assert ('class="warn">tuned:' in html.render(r)) == warned
    assert 'class="soft">base:' in html.render(r)


def test_untrusted_text_stays_text_and_nothing_is_fetched():
    page = Page(html.render(made()))
    assert {tag for tag, _ in page.tags} & {
        "img",
        "iframe",
        "link",
        "object",
        "base",
        "form",
        "a",
        "b-x",
    } == set()
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        assert not {"src", "href", "srcset", "action", "xlink:href"} & set(attributes), tag
    policy = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    [script] = re.findall(r"<script>(.*?)</script>", html.render(made()), re.S)
    own = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == [f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{own}'"]
    assert not re.search(r"fetch|XMLHttp|import|eval|innerHTML|write|https?:", script)
    assert [tag for tag, _ in page.tags].count("script") == 1
    style = re.search(r"<style>(.*?)</style>", html.render(made()), re.S)
    assert style
    assert not re.search(r"url\(|@import|//", style[1])


@pytest.mark.parametrize(
    ("more", "outcome"),
    [
        ({"answered": False}, "INVALID"),
        ({"answered": False, "efforts": EFFORTS}, "INVALID"),
        ({"errors": 120}, "INVALID"),
    ],
)
def test_a_report_without_figures_still_makes_a_page(more, outcome):
    r = made(throughput=None, **more)
    page = Page(html.render(r))
    assert r.verdict.outcome == outcome
    assert r.verdict.reasons[0] in page.text
    assert "No load test is part of this report" in page.text
    assert not re.search(r"\b(nan|None|Undefined)\b", page.text)


def test_marks_lie_where_the_figures_say():
    r = made()
    axis = html.Axis(-0.1, 0.1, ())
    assert (axis.x(-0.1), axis.x(0), axis.x(0.05), axis.x(9)) == ("0.00%", "50.00%", "75.00%", "100.00%")
    page = html.render(r)
    low = r.comparisons[0]
    drawn = around([d for c in r.comparisons for d in (c.difference, c.answering)], r.policy.margin)
    assert drawn.low < low.difference.lower
    assert drawn.low < -r.policy.margin
    assert f'x1="{drawn.x(low.difference.lower)}" x2="{drawn.x(low.difference.upper)}"' in page
    assert f'<circle cx="{drawn.x(low.difference.estimate)}"' in page


def test_the_page_ends_with_where_it_comes_from():
    set_ = question_set(9).model_copy(
        update={"left_out": {"not documented": 12, "bound to a version": 3}, "skipped": {"pdb": "cannot be imported"}}
    )
    asked = asked_of(set_, "docs-base@0123456789abcdef", "docs-tuned@123456789abcdef0", {"base": "0123456789abcdef"})
    base = asked.servers["base"].model_copy(update={"version": '{"version": "0.33.0"}', "max_model_len": 8192})
    table = asked.sampling.model_copy(update={"max_tokens": {"low": 256, "high": 4096}, "temperature": 0.5})
    asked = asked.model_copy(update={"servers": {**asked.servers, "base": base}, "sampling": table})
    text = text_of(built(set_, both(set_, efforts=("low", "high")), asked, provenance={"gptoss-kit": "9.9"}))
    end = text[text.index("Where this comes from") :]
    for part in (
        "Base docs-base@0123456789abcdef",
        "Base, digest 0123456789abcdef, sent with every reply",
        "Tuned, digest 123456789abcdef0, in its name alone",
        "Base, engine 0.33.0",
        "Base, context 8192 tokens",
        "Tuned, engine does not say its version",
        "Sampling temperature 0.5, seed 0, at most low 256, high 4096 tokens",
        f"Its digest {set_.digest}",
        "Candidates left out not documented: 12; bound to a version: 3",
        "Modules without a question pdb: cannot be imported",
        "gptoss-kit 9.9",
        "questions made for Python 3.11.7",
    ):
        assert part in end, part


def test_a_page_of_1600_questions_at_three_efforts_stays_under_two_megabytes():
    """As bad as it gets: every text too long, 20 lost and 20 gained at each effort of either split."""
    long = "A reply of many words, `code` and \u201cquotes\u201d. " * 100
    qs = tuple(
        question(i, f"kind{i % 12}", prompt=f"P{i} {long}", split="taught" if i % 2 else "held-out")
        for i in range(1600)
    )
    set_ = QuestionSet(name="python-docs", python="3.11.7", questions=qs)
    times = {"first_token_s": 0.04, "first_answer_s": 1.5, "total_s": 2.0, "completion_tokens": 50}

    def told(i: int, arm: Arm, effort: str) -> Reply:
        right = i % 40 > 1 if arm == "tuned" else i % 40 not in (2, 3)
        text = f"{long}\nANSWER: {qs[i].answer if right else 'no'}"
        return reply(qs[i], arm, effort, text=text, reasoning=long, reasoning_tokens=900, **times)

    r = built(set_, [told(i, arm, e) for i in range(1600) for arm in ARMS for e in EFFORTS], efforts=list(EFFORTS))
    assert [len(c.flips) for c in r.comparisons] == [40] * 6
    assert 500_000 < len(html.render(r).encode()) < 2_000_000


@pytest.fixture
def trap():
    """A loopback server that notes every path it is asked for."""
    asked: list[str] = []

    class Note(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Note) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed (apt-get install chromium)")
def test_a_real_browser_shows_it_and_asks_nobody_for_anything(tmp_path, trap):
    url, asked = trap
    start = [
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--window-size=1180,2400"),
        f"--user-data-dir={tmp_path / 'profile'}",
    ]

    def chromium(name: str, text: str, *more: str) -> str:
        page = tmp_path / name
        page.write_text(text, encoding="utf-8")
        return subprocess.run(
            [*start, *more, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
        ).stdout

    bait = f"<img src={url}/img><script src={url}/script></script><style>@import '{url}/css';</style>"
    chromium("control.html", bait, "--dump-dom")
    assert {"/img", "/script", "/css"} <= set(asked), "the trap catches a page that is not escaped"
    asked.clear()

    r = made(text=HOSTILE + bait, note=NOTE + bait)
    dom = chromium("report.html", html.render(r), "--dump-dom")
    assert asked == []
    assert f"<title>{r.verdict.outcome}: docs-tuned@123456789abcdef0 against" in dom
    assert NOTE in dom
    assert "&lt;script&gt;document.title" in dom

    picture = tmp_path / "page.png"
    chromium("report.html", html.render(r), f"--screenshot={picture}")
    assert asked == []
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 50_000, "the page is drawn, not blank"
