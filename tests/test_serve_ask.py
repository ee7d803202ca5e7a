"""`serve ask`: one effort streams, several stand side by side; nothing of an answer drives the terminal."""

import json
import os
import pty
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.stub.server import Model, Script, serving
from serve import sides
from serve.ask import Answer
from serve.cli import main
from serve.sides import NARROWEST
from tune.screen import BETWEEN, keeps_its_place, width

WIDTHS = (40, 60, 78, 79, 120, 200)  # three columns of NARROWEST and what stands between them take 79
CODE = "Sort in place with `list.sort()`:\n\n    names.sort(key=str.lower)\n\nIt returns None."
WIDE = "日本語の答え 🙂: `sorted(名前)` gives a new list."


def answer(effort="low", reasoning="Short.", said=CODE, **more):
    told = {"ended": "stop", "reasoning_tokens": 12, "answer_tokens": 1034, "first_token_s": 0.414}
    told |= {"first_answer_s": 0.9, "total_s": 2.1, **more}
    return Answer(effort=effort, reasoning=reasoning, answer=said, **told)


THREE = [
    answer(),
    answer("medium", "The user wants a list in order. Both ways exist.", WIDE, ended="length"),
    answer("high", "Long " * 30, "", reasoning_tokens=None, answer_tokens=None, first_answer_s=None),
]


def plain(answers, total):
    return [click.unstyle(row) for row in sides.rows(answers, total)]


def test_three_efforts_in_terminals_of_every_width_and_in_a_pipe(golden):
    shown = {str(total or "pipe"): "\n".join(plain(THREE, total)) for total in (*WIDTHS, 0)}
    golden("serve-ask.txt", "\n".join(f"=== {name}\n{text}" for name, text in shown.items()) + "\n")
    assert BETWEEN not in shown["78"]
    assert BETWEEN in shown["79"]


def test_thinking_is_dim_and_the_answer_is_not():
    rows = sides.rows([answer()], 100)
    assert click.style("Short.", dim=True) in rows
    assert click.style("low", bold=True) in rows
    assert "    names.sort(key=str.lower)" in rows


ODD = st.sampled_from(list("\x1b\x9b\r\n\t\x07\u202e\u2066\u200b\u200d\ufe0f\x00\ud800 日é\u0301🙂🏽אب"))
WILD = st.lists(ODD | st.characters(), max_size=80).map("".join)


@given(st.lists(st.tuples(WILD, WILD), min_size=1, max_size=3), st.integers(40, 200))
def test_no_answer_leaves_its_place_or_drives_the_terminal(texts, total):
    shown = plain([answer("low", reasoning, said) for reasoning, said in texts], total)
    assert all(row.isprintable() or not row for row in shown)
    assert all(width(row) < total for row in shown)
    "\n".join(shown).encode()


@given(st.text(st.characters(exclude_categories=["C", "M"], exclude_characters="│"), max_size=40), st.integers(40, 200))
def test_columns_stand_straight_or_are_none(text, total):
    shown = plain([answer("low", said=text), answer("high", said=text)], total)
    edges = [width(row[: row.index("│")]) for row in shown if "│" in row]
    assert edges in ([], [(total - 4) // 2 + 1] * len(shown))
    assert edges or total < 2 * NARROWEST + 4 or not keeps_its_place(text)


@pytest.mark.parametrize("text", ["שלום עולם", "مرحبا", "١٢٣", "👍🏽", "👩\u200d👧", "❤\ufe0f"])
def test_what_terminals_would_not_keep_in_a_column_stands_below(text):
    assert BETWEEN in "".join(plain([answer("low"), answer("high", said="日本 🙂 é")], 120))
    below = plain([answer("low"), answer("high", said=text)], 120)
    assert BETWEEN not in "".join(below)


@pytest.fixture(scope="module")
def url():
    voice = Model(says={"drive": "\x1b]0;owned\x07 \x1b[2J done"}, voice="word", reasoning_tokens={"low": 2, "high": 9})
    with serving(Script(models={"m@0123456789abcdef": voice}, default_effort="low")) as found:
        yield found


def ask(*words):
    return CliRunner().invoke(main, ["ask", *words])


def test_several_efforts_are_told_apart_in_a_script(url):
    out = ask(url, "Why?", "--effort", "low,high,low", "--json")
    assert out.exit_code == 0, out.output
    low, high = json.loads(out.stdout)
    assert (low["effort"], high["effort"]) == ("low", "high")
    assert (low["reasoning_tokens"], high["reasoning_tokens"]) == (2, 9)
    for one in (low, high):
        assert one["answer"].startswith("word")
        assert one["answer_tokens"] > 0
        assert 0 < one["first_token_s"] <= one["first_answer_s"] <= one["total_s"]
    piped = ask(url, "Why?", "--effort", "low,high").stdout
    assert piped.index("low\n") < piped.index("reasoning 2, ") < piped.index("high\n") < piped.index("reasoning 9, ")
    assert BETWEEN not in piped


def test_one_effort_streams_its_thinking_apart(url):
    out = ask(url, "Why?", "--effort", "high")
    (same,) = json.loads(ask(url, "Why?", "--effort", "high", "--json").stdout)
    assert out.stdout == same["answer"] + "\n"
    assert out.stderr == same["reasoning"]
    assert "first token" not in out.output


def test_an_effort_that_the_server_refuses_is_its_own_words(url):
    out = ask(url, "Why?", "--effort", "low,most")
    assert (out.exit_code, "answered 400" in out.output) == (2, True)


PAGE, LIST = b"<html>", b'{"object": "list", "data": []}'


@pytest.mark.parametrize(
    ("status", "body", "given", "says"),
    [
        (200, PAGE, [], "it lists no models"),
        (200, LIST, [], "it lists no models"),
        (200, PAGE, ["--model", "m"], "no piece of an answer came"),
        (404, PAGE, [], "it answers 404"),
        (404, b'{"error": {"message": "no m"}}', ["--model", "m"], "/v1/models"),
    ],
)
def test_what_is_no_server_of_this_kind_is_said_so(status, body, given, says):
    class Strange(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-type", "application/json" if body[:1] == b"{" else "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Strange) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        there = f"http://127.0.0.1:{server.server_address[1]}"
        out = ask(there, "Why?", *given)
        waited = CliRunner().invoke(main, ["wait", there])
        server.shutdown()
    assert (out.exit_code, says in out.output) == (2, True), out.output
    assert "fix: " in out.output
    if body != LIST:
        assert (waited.exit_code, "not a server of this kind" in waited.output) == (2, True), waited.output


def test_what_is_no_url_is_said_so():
    out = ask("localhost:8000", "Why?")
    assert (out.exit_code, "is not a URL" in out.output) == (2, True)


@pytest.mark.parametrize("effort", ["low", "low,high"])
def test_a_terminal_is_not_driven_by_what_a_model_says(url, effort):
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "serve", "ask", url, "drive", "--effort", effort]
    with subprocess.Popen(command, stdout=slave, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        os.close(slave)
        got = b""
        try:
            while data := os.read(master, 4096):
                got += data
        except OSError:  # Linux's end of a terminal
            pass
        process.stderr.read()
    os.close(master)
    assert process.returncode == 0
    assert rb"\x1b]0;owned\x07" in got
    assert b"\x1b]" not in got
    assert b"\x1b[2J" not in got
    assert b"\x07" not in got
