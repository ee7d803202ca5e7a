"""Where a report comes from, as names and values: servers, sampling, questions, digests. Decides nothing."""

import json
from collections.abc import Mapping

from evalsuite.replies.server import Server
from evalsuite.report import Report
from tune.evaluate import tokens_at

SHOWN = 300  # characters of what somebody else wrote


def facts(report: Report) -> list[tuple[str, str]]:
    """In the order of a run: who was asked, how, and what. A server's words are cut to 300 characters."""
    repeats = report.asked.sampling.repeats
    return [
        *(fact for arm, server in report.asked.servers.items() for fact in _server(arm.capitalize(), server)),
        ("Sampling", sampled(report)),
        *([("Answers", f"{repeats} to each question, with seeds of their own")] if repeats > 1 else []),
        ("Question set", f"{report.questions_name}, {report.questions_count} questions"),
        ("Its digest", report.questions_digest),
        *_counted("Candidates left out", report.questions_left_out),
        *_counted("Modules without a question", report.questions_skipped),
        *((f"Questions, {name}", _short(value)) for name, value in sorted(report.questions_made.items())),
        *((name, value) for name, value in report.provenance.items()),
        ("Answers' digest", report.evidence.answers_digest),
        *((f"Replies on file {why}, not counted", str(n)) for why, n in report.evidence.others.items()),
        ("Report", f"{report.digest}, schema {report.schema_version}"),
    ]


def sampled(report: Report) -> str:
    """How every question was asked."""
    sampling = report.asked.sampling
    limits = {e: tokens_at(sampling.max_tokens, e) for e in report.efforts}
    most = (
        f"{sampling.max_tokens}"
        if isinstance(sampling.max_tokens, int)
        else ", ".join(f"{e} {n}" for e, n in limits.items())
    )
    return f"temperature {sampling.temperature:g}, seed {sampling.seed}, at most {most} tokens"


def _server(arm: str, server: Server) -> list[tuple[str, str]]:
    said = {
        "": server.model,
        "digest": f"{server.digest}, {'sent with every reply' if server.header else 'in its name alone'}"
        if server.digest
        else "none sent",
        "engine": server.engine or server.version[:SHOWN] or "does not say its version",
        "stands for": server.root[:SHOWN],
        "context": f"{server.max_model_len} tokens" if server.max_model_len else "",
        "model list": server.listed[:SHOWN],
    }
    return [(f"{arm}, {name}" if name else arm, value) for name, value in said.items() if value or not name]


def _counted(name: str, what: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(name, "; ".join(f"{key}: {value}" for key, value in what.items()))] if what else []


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} …"
