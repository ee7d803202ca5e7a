"""Report in, JUnit XML and a Markdown summary out: what a CI run shows. Decides nothing."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from evalsuite.judging import gain, limits
from evalsuite.judging.advice import Advice
from evalsuite.judging.checks import Check
from evalsuite.judging.comparison import Comparison
from evalsuite.judging.failures import Failures
from evalsuite.judging.gain import Way
from evalsuite.judging.notation import confidence, interval, percent, place, stated
from evalsuite.report import Report
from evalsuite.views.provenance import sampled
from tune.harmony import EFFORTS

# What XML 1.0 cannot carry at all, not even escaped.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report) -> str:
    """One test case an effort and check. FAIL is a failure, INCONCLUSIVE a failure of that type, INVALID an error.

    A CI system that reads it turns red in the same cases in which `evalsuite gate` leaves with another code than 0.
    """
    verdict = report.verdict
    suite = ElementTree.Element("testsuite", name="evalsuite", timestamp=report.created[:19])
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _facts(report):
        ElementTree.SubElement(properties, "property", name=_xml(name), value=_xml(value))
    for check in verdict.checks:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"evalsuite.{check.effort or 'all'}", name=check.name
        )
        if check.outcome != "PASS":
            failure = ElementTree.SubElement(case, "failure", type=check.outcome, message=_xml(check.reason))
            failure.text = _figures(report, check)
            _tell(case, [_failed(f) for f in report.failures if f.effort == check.effort])
        else:
            ElementTree.SubElement(case, "system-out").text = _xml(check.reason)
    if verdict.outcome == "INVALID":
        case = ElementTree.SubElement(suite, "testcase", classname="evalsuite", name="measurement")
        error = ElementTree.SubElement(case, "error", type="INVALID", message=_xml(verdict.reasons[0]))
        error.text = _xml("\n".join(verdict.reasons))
        _tell(case, [_failed(f) for f in report.failures])
    if report.note:
        ElementTree.SubElement(suite, "system-out").text = _xml(report.note)
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def markdown(report: Report) -> str:
    """Verdict, reasons, a table of held-out questions and, if there are any, one of general ones and one of what may
    show a gain.

    For a job summary ($GITHUB_STEP_SUMMARY) or a pull-request comment.
    """
    verdict = report.verdict
    lines = [f"## {verdict.outcome}: {_md(report.tuned_model or '–')} against {_md(report.base_model or '–')}", ""]
    if report.note:
        lines += [f"> {_md(report.note)}", ""]
    lines += [f"- {_md(reason)}" for reason in verdict.reasons]
    if (repeats := report.asked.sampling.repeats) > 1:
        free = report.advice.rows[0].asked if report.advice else 0
        asked = f"of {report.questions_count - free} questions, {repeats} answers each"
        lines += ["", f"Means {asked}; lost and gained by majority. Limits look at the first answer."]
    if others := [e for e in report.efforts if e not in EFFORTS]:
        known = [e for e in report.efforts if e in EFFORTS]
        judged = (
            f"judged from {' to '.join(known)}, without {_md(', '.join(others))}"
            if len(known) > 1
            else "not judged: that takes two of GPT-OSS's three"
        )
        lines += ["", f"Whether effort steers is {judged}."]
    sure = f"difference, points ({confidence(report.policy.alpha)} bounds)"
    ways, general = gain.ways(report.comparisons), report.of("general")
    forgetting = stated(report.policy.forgetting_margin)
    lines += [
        "",
        *(["Held-out questions:", ""] if ways or general else []),
        *_table(report.of("held-out"), sure),
        *([f"General questions, with a margin of {forgetting} points:", "", *_table(general, sure)] if general else []),
        *_guessed(report),
        *_limits(report),
        *([*(f"- {_md(_failed(f))}" for f in report.failures), ""] if report.failures else []),
        *([_advised(report.advice), ""] if report.advice else []),
    ]
    if ways:
        lines += [
            f"{'A gain is required' if report.policy.require_gain else 'These decide nothing'}:",
            "",
            f"| effort | questions | base | tuned | {sure} | lost / gained | p, they differ | p, tuned is better "
            "| missing |",
            "|---|---|--:|--:|--:|--:|--:|--:|--:|",
            *(_way(way) for way in ways),
            "",
        ]
    lines += [
        f"Margin {stated(report.policy.margin)} points, one-sided alpha {report.policy.alpha:g}, {report.created}.",
        "",
        *(f"- {_md(name)}: {_md(value)}" for name, value in _facts(report)),
    ]
    return "\n".join(lines) + "\n"


def _advised(advice: Advice) -> str:
    """One line: the share of key points, words and false claims, base → tuned, an effort after the other."""
    told = []
    for row in advice.rows:
        base, tuned = row.base, row.tuned
        words = " → ".join("–" if a.words is None else f"{a.words:.0f}" for a in (base, tuned))
        told.append(
            f"{row.effort} {percent(base.points)} → {percent(tuned.points)} in {words} words, false claims "
            f"{base.false} → {tuned.false}, {min(base.answers, tuned.answers)} of {row.asked} answered"
        )
    return f"Advice, not gated: key points told in free text: {'; '.join(told)}."


def _table(comparisons: Sequence[Comparison], sure: str) -> list[str]:
    return [
        f"| effort | base | tuned | {sure} | lost / gained | readable, points | missing | p50 first answer |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        *map(_row, comparisons),
        "",
    ]


def _row(c: Comparison) -> str:
    wait = " → ".join("–" if a.first_answer is None else f"{a.first_answer[0]:.2f} s" for a in (c.base, c.tuned))
    cells = [
        c.effort,
        percent(c.base.accuracy),
        percent(c.tuned.accuracy),
        interval(c.difference),
        f"{c.lost} / {c.gained}",
        interval(c.answering),
        c.whole.lacking.words,
        wait,
    ]
    return f"| {' | '.join(cells)} |"


def _way(way: Way) -> str:
    g = way.figures
    cells = [
        way.effort,
        way.words,
        percent(g.base),
        percent(g.tuned),
        interval(g.difference),
        f"{g.lost} / {g.gained}",
        f"{g.mcnemar_p:.2g}",
        f"{g.better_p:.2g}",
        g.lacking.words,
    ]
    return f"| {' | '.join(cells)} |"


def _guessed(report: Report) -> list[str]:
    """A line for each effort and split with kinds at which base is not shown to do more than guess, if asked."""
    out = []
    for c in report.comparisons:
        if report.stopped and c.base.absent:
            continue
        kinds = [
            f"{_md(row.kind)} ({percent(row.base)} of {row.asked}, blind guessing {percent(row.guess)})"
            for row in c.kinds
            if row.only_guesses
        ]
        left_out = ""
        if c.split != "taught" and c.known:
            left_out = f", left out of the claim in right answers, which is on {c.known.asked} of {c.asked} questions"
        shown = f"- {place(c)}: base is not shown to do more than guess{left_out}: {', '.join(kinds)}"
        out += [shown] if kinds else []
    return [*out, ""] if out else []


def _limits(report: Report) -> list[str]:
    """What the recipe limits: where tuned lies, and base, and what the gate made of it."""
    if not report.limits:
        return []
    checks = {(check.effort, check.name): check.outcome for check in report.verdict.checks}
    out = ["Limits:", "", "| effort | what | base | tuned | bound | limit | outcome |", "|---|---|--:|--:|--:|--:|---|"]
    for f in report.limits:
        out.append(f"| {' | '.join([*limits.row(f), checks.get((f.effort, f.name), '–')])} |")
    return [*out, ""]


def _failed(f: Failures) -> str:
    """What went wrong with one arm at one effort, in a line."""
    parts = [f"{e.count} × {e.text}" for e in f.errors]
    parts += [f"{f.other_errors} other errors"] if f.other_errors else []
    parts += [f"{e.count} {e.outcome}, such as {e.question}" + (f": {e.text}" if e.text else "") for e in f.replies]
    said = [f"replies without an answer: {'; '.join(parts)}"] if parts else []
    said += [f"wrong code, run: {'; '.join(f'{e.count} × {e.text}' for e in f.code)}"] if f.code else []
    return f"{f.arm} at {f.effort}, {'; '.join(said)}"


def _tell(case: ElementTree.Element, lines: list[str]) -> None:
    if lines:
        ElementTree.SubElement(case, "system-out").text = _xml("\n".join(lines))


def _facts(report: Report) -> list[tuple[str, str]]:
    return [
        ("base", report.base_model),
        ("tuned", report.tuned_model),
        ("sampling", sampled(report)),
        ("question set", f"{report.questions_name} {report.questions_digest}"),
        ("report", report.digest),
        *([("stopped", f"{s.pairs} of {s.of} pairs of answers")] if (s := report.stopped) else []),
        *((f"replies on file {why}, not counted", str(count)) for why, count in report.evidence.others.items()),
        *report.provenance.items(),
    ]


def _figures(report: Report, check: Check) -> str:
    """The difference that a check is about; of a gain each that could have shown it."""
    if check.name == "gain":
        ways = [way for way in gain.ways(report.comparisons) if way.effort == check.effort]
        return "\n".join(f"{way.words}: {interval(way.figures.difference)}" for way in ways)
    for f in report.limits:
        if (f.effort, f.name) == (check.effort, check.name):
            return f"{f.place}: {limits.quantity(f.name, f.value)}, limit {limits.limit(f)}"
    claims = (claim for c in report.comparisons if c.split != "taught" for claim in c.claims)
    return next(
        interval(claim.difference) for claim in claims if (claim.effort, claim.name) == (check.effort, check.name)
    )


def _xml(text: str) -> str:
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def _md(text: str) -> str:
    """Names and notes are somebody's text: no markup, no table cell, no line of its own comes from them."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
