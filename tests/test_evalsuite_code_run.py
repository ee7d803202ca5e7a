"""Answers that are code, run: what misbehaves is wrong, reaches nothing, and changes nothing for another."""

from typing import Any

import pytest
from coded import CALL, FIX, PLAIN, asked, shut

from evalsuite import sandbox
from evalsuite.code import execution, inside
from evalsuite.code.execution import Program, Ran
from evalsuite.replies import graders
from evalsuite.replies.graders import grade
from tune.errors import UserError

OUT = "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0].__init__.__globals__"
ATTACKS = {
    "exit": f"{OUT}['sys'].exit(0)",
    "_exit": f"{OUT}['_exit'](0)",
    "kill": f"{OUT}['kill']({OUT}['getpid'](), 9)",
    "print": "print('b3g=')",
    "verdict on standard output": f"({OUT}['write'](1, b'ready\\n{{\"typed\": 1}}\\n'), {OUT}['_exit'](0))",
    "verdict on every descriptor": (
        f"([{OUT}['write'](int(n), b'x ready\\nx {{}}\\n') for n in '3456' if n in {OUT}['listdir']('/proc/self/fd')],"
        f" {OUT}['_exit'](0))"
    ),
    "always equal": f"{OUT}['__builtins__']['type']('E', (), {{'__eq__': lambda s, o: True}})()",
    "a text of its own": f"{OUT}['__builtins__']['type']('S', (str,), {{'__eq__': lambda s, o: True}})('b3g=')",
    "built-ins written over": f"{OUT}['__builtins__'].update(repr=lambda v: \"'b3g='\")",
    "loop": "all(1 for _ in iter(int, 1))",
    "fork": f"{OUT}['fork']()",
    "much output": f"[{OUT}['write'](1, b'x' * 10**6) for _ in range(10**3)]",
    "much memory": "'x' * 10**10",
    "long value": "'x' * 10**6",
    "deep value": "[i := []] and [i := [i] for _ in range(10**5)]",
    "locals through frames": f"{OUT}['sys']._getframe(2).f_locals",
    "sources through frames": "(g.gi_frame.f_back.f_back.f_code for g in [(0 for _ in [1])]).__next__()",
}  # fmt: skip


VALUED = {
    "always equal",
    "a text of its own",
    "built-ins written over",
    "locals through frames",
}  # none right


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_misbehaves_is_wrong_even_where_the_language_would_let_it(attack: str) -> None:
    found = execution.execute(Program("base64", ATTACKS[attack]), shut())
    assert found.typed != inside.typed("b3g="), found
    assert bool(found.error) == (attack not in VALUED), found


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_language_of_answers_has_no_way_to_them(attack: str) -> None:
    shut()
    text = f"base64.b64encode(s={ATTACKS[attack]})"
    assert grade(PLAIN, text) == 0.0
    if attack not in {"loop", "much memory", "long value"}:
        assert graders.ran(PLAIN, text).startswith("uses ")


@pytest.mark.parametrize(
    "expression",
    [
        "(lambda base64: 1)(2)",
        "base64.struct.pack('b', 1)",
        "base64.binascii",
        "(g.gi_frame for g in [(0 for _ in [1])])",
        "open('/proc/self/fd/3', 'w')",
        "__import__('os')",
        "'{0.__class__}'.__class__",
        "getattr(b'', 'x')",
    ],
)
def test_names_that_lead_out_are_refused(expression: str) -> None:
    shut()
    assert grade(PLAIN, f"base64.b64encode(b'ox', altchars=[{expression}, None][1])") == 0.0
    assert grade(PLAIN, "base64.b64encode(b'ox', altchars=[1, None][1])") == 1.0


def test_what_should_come_out_never_goes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    at, sent = shut(), list[str]()
    real = sandbox.run
    monkeypatch.setattr(sandbox, "run", lambda code, **more: sent.append(code) or real(code, **more))
    monkeypatch.setattr(execution, "_RAN", {})
    hidden = asked("call", "____", "b'Y2FuYXJ5'", "base64.b64encode(b'canary')")
    assert grade(hidden, hidden.answer) == 1.0
    wrong = FIX.model_copy(update={"code": FIX.code and FIX.code.model_copy(update={"value": "b'Y2FuYXJ5'"})})
    assert grade(wrong, FIX.answer) == 0.0
    assert len(sent) == 2
    assert not any("Y2FuYXJ5" in code for code in sent)
    again = f"({OUT}['lseek'](0, 0, 0), {OUT}['read'](0, 100))"  # standard input was the program
    assert execution.execute(Program("base64", again), at).shown == "(0, b'')"


def test_what_an_expression_prints_is_no_part_of_its_report() -> None:
    assert execution.execute(Program("base64", f"({OUT}['write'](1, b'x'), 5)[1]"), shut()).shown == "5"


def test_one_program_changes_nothing_for_another() -> None:
    at = shut()
    break_it = f"{OUT}['sys'].modules['base64'].__dict__.update(b64encode=lambda s: b'b3g=')"
    leave = f"{OUT}['sys'].modules['io'].open('left', 'w').write('b3g=')"
    for source in (break_it, leave):
        assert execution.execute(Program("base64", source), at).error == ""
    assert execution.execute(Program("base64", "base64.b64encode(b'')"), at).shown == "b''"
    assert execution.execute(Program("base64", f"{OUT}['listdir']('.')"), at).shown == "[]"


def test_what_fails_to_start_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    at, tries = shut(), list[str]()
    real = sandbox.run

    def start(code: str, **more: Any) -> sandbox.Result:
        tries.append(code)
        return real(code, **more) if len(tries) == 3 else sandbox.Result("", "no room", 125, at)

    monkeypatch.setattr(sandbox, "run", start)
    assert execution.execute(Program("base64", "base64.b64encode(b'')"), at) == Ran(inside.typed(b""), "b''")
    monkeypatch.setattr(sandbox, "run", lambda *_a, **_m: sandbox.Result("", "no room", 125, at))
    with pytest.raises(UserError, match="did not start"):
        execution.execute(Program("base64", "1"), at)


def test_a_program_without_an_end_is_wrong_by_its_processor_time() -> None:
    assert "5 s of the processor" in execution.execute(Program("base64", ATTACKS["loop"]), shut()).error


def test_a_program_that_waits_is_wrong_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    at = shut()
    monkeypatch.setattr(execution, "SECONDS", 6.0)
    assert "not done after 6 s" in execution.execute(Program("time", "time.sleep(600)"), at).error


def test_what_the_clock_ended_is_run_once_more_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shut()
    real, going, seen = sandbox.run, list[str](), list[tuple[str, int]]()

    def starved(code: str, **more: Any) -> sandbox.Result:
        """At first no program gets the processor, but for its sign of life; the last one never does."""
        going.append(code)
        done, first = real(code, **more), code.rsplit("main", 1)[1].split("base64", 1)[1]
        seen.append((first, len(going)))
        going.remove(code)
        starts = [name for name, _ in seen].count(first) == 1
        return done if "b'fine'" in first or not (starts or "b'never'" in first) else done._replace(
            stdout=done.stdout.split("\n")[0] + "\n", returncode=None
        )  # fmt: skip

    monkeypatch.setattr(execution, "_RAN", {})
    monkeypatch.setattr(sandbox, "run", starved)
    fine, slow, never = (Program("base64", f"base64.b64encode(b'{name}')") for name in ("fine", "slow", "never"))
    execution.run([fine, slow, never])
    assert (execution.ran(fine).shown, execution.ran(slow).shown) == ("b'ZmluZQ=='", "b'c2xvdw=='")
    assert execution.ran(never) == Ran(error="no value: not done after 30 s", late=True)
    assert len(seen) == 5
    assert [beside for _, beside in seen[3:]] == [1, 1]


def test_each_distinct_program_runs_once_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    shut()
    real, runs = execution.execute, list[Program]()
    monkeypatch.setattr(execution, "_RAN", {})
    monkeypatch.setattr(execution, "execute", lambda p, at: runs.append(p) or real(p, at))
    texts = ["base64.b64encode(b'ox')", 'base64.b64encode(b"ox" )', "base64.b64encode(s=b'ox')", "1"] * 20
    graders.prepare((CALL, text) for text in texts)
    assert len(runs) == 2
    first = [grade(CALL, text) for text in texts]
    assert len(runs) == 2
    monkeypatch.setattr(execution, "_RAN", {})
    assert [grade(CALL, text) for text in texts] == first == [1.0, 1.0, 1.0, 0.0] * 20
