"""The bound on text: it never takes a long piece for a short one, and ordinary text of ordinary size passes."""

import base64
import json
import random
import sys

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from serve import limits
from tune import harmony
from tune.weights.tokenizer import PATTERN

ROOM = 131_072
PIECE = regex.compile(PATTERN)
AROUND = 9  # bytes of a piece outside its run: a character before it, and an apostrophe and two letters after
CLASSES = ["a", "Z", "é", "中", "ʰ", "\u0301", "\u0b3e", "Ⅷ", "½", "7", "٣", "!", "_", "-", "/", "'s", "、", "€", "😀",
           "\u200d", "\u200b", "\ufeff", "\x1c", "\x00", " ", "\t", "\n", "\r", "\x85", "\xa0", "\u3000", "\u2028",
           "\ud800", "\U000e0100", "\U0001fbf9", "ſ", "K"]  # fmt: skip


def size(text):
    return len(text.encode("utf-8", "surrogatepass"))


def pieces(text):
    return [size(m[0]) for m in PIECE.finditer(text)]


def test_the_longest_token_is_what_the_vocabulary_says():
    # regular bytes of every id, from the library that the server tokenises with
    inner = harmony.encoding()._inner
    assert max(len(inner.decode_bytes([i])) for i in range(harmony.RANKS)) == limits.LONGEST_TOKEN


def test_every_character_is_counted_in_every_run_that_it_can_be_part_of():
    letters, symbols, space = limits._patterns()
    may_be = [
        (letters, regex.compile(r"[\p{L}\p{M}]")),
        (symbols, regex.compile(r"[^\s\p{L}\p{N}]|[\r\n/]")),
        (space, regex.compile(r"\s")),
    ]
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        for ours, theirs in may_be:
            if theirs.match(char):
                assert ours.match((char.replace("_", "-")) * limits.SHORT), hex(code)


TEXT = st.lists(
    st.tuples(st.lists(st.sampled_from(CLASSES) | st.characters(), min_size=1, max_size=4), st.integers(1, 200)),
    max_size=8,
).map(lambda parts: "".join("".join(chars) * times for chars, times in parts))


@settings(max_examples=400, deadline=None)
@given(TEXT)
def test_no_piece_is_longer_than_its_run(text):
    runs = list(limits.runs(text))
    long = [n for n in pieces(text) if n > limits.SHORT * 4 + AROUND]
    if long:
        assert max(runs) >= max(long) - AROUND
        assert sum(r * r for r in runs) >= sum((n - AROUND) ** 2 for n in long)


def ok(text, room=ROOM):
    limits.check({"messages": [{"role": "user", "content": text}]}, room)


def chinese(characters):
    return "".join(random.Random(0).choices([chr(c) for c in range(0x4E00, 0x9FA5)], k=characters))


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(random.Random(0).randbytes(1_000_000)).decode(),
        random.Random(0).randbytes(500_000).hex(),
        "https://example.org/a/b-c/d?e=f&g=%20h#i_j/" * 2_000,
        "function(a,b){return a.b(c||{},[1,2])?d:e};" * 5_000,
        json.dumps({"a": [{"b": i, "c": "d"} for i in range(20_000)]}, separators=(",", ":")),
        "=" * 80 + "\n" + ("    indented\n" * 5_000),
        chinese(6_600),  # 20 kB without a mark
        ("，".join(chinese(40) for _ in range(40)) + "。\n") * 50,
        "สวัสดีครับ" * 400 + " " + "नमस्ते" * 600,
        "👩‍👩‍👧 " * 5_000,
        "| a | b |\n|---|---|\n" * 5_000,
    ],
    ids=["base64", "hex", "urls", "code", "json", "lines", "chinese", "paragraphs", "thai", "emoji", "table"],
)
def test_ordinary_text_passes(text):
    ok(text)


@pytest.mark.parametrize("unit", ["x", "中", " ", "\n", "!", "/\n", "😀", "\u0301", "X", "a\u0301", "_", "é"])
def test_a_long_run_of_anything_is_refused_and_told(unit):
    with pytest.raises(limits.TextError) as error:
        ok(unit * 60_000)
    assert (error.value.param, error.value.code) == ("messages", "unbroken_text")
    assert f"{60_000 * size(unit):,} bytes" in str(error.value)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"content": [{"type": "text", "text": "x" * 50}] * 1_000}]},  # joined by the engine
        {"messages": [{"content": ["x" * 50] * 1_000}]},
        {"messages": [{"role": "user", "content": "y", "name": "x" * 50_000}]},
        {"tools": [{"function": {"parameters": {"properties": {"x" * 50_000: {"type": "string"}}}}}]},
        {"tools": [{"function": {"parameters": {"enum": ["x" * 50_000]}}}]},
        {"input": [{"type": "function_call_output", "output": "x" * 50_000}]},
        {"input": [{"content": [{"text": ["x" * 50_000]}]}]},
        {"instructions": "x" * 50_000},
        {"prompt": ["y", "x" * 50_000]},
        {"messages": [{"content": "x" * 15_000}, {"content": "x" * 15_000}]},  # neither alone
    ],
)
def test_it_is_seen_wherever_it_stands(body):
    with pytest.raises(limits.TextError) as error:
        limits.check(body, ROOM)
    assert (error.value.param, error.value.code) == (next(iter(body)), "unbroken_text")


PIECES = st.sampled_from(
    [" ", "\n", "\t", "a", "1", "!", "-", "_", "\r", "\x1c", "é", "漢", "\u3000", "\x85", "words "]
)


@given(st.lists(st.tuples(PIECES, st.integers(1, 80)), max_size=8).map(lambda t: "".join(p * n for p, n in t)))
def test_what_passes_for_ordinary_has_no_long_run(text):
    assert not (limits.ordinary(text) and list(limits.runs(text)))
    assert limits.ordinary("So is this. And that:\n\n- one\n- two\n" * 50)


def test_many_short_words_are_no_long_one():
    limits.check({"tools": [{"function": {"parameters": {"enum": ["word"] * 20_000}}}]}, ROOM)


def test_what_cannot_fit_is_refused_by_its_bytes_alone():
    fits = " x" * 64 * 1_000  # 128 bytes for each of 1,000 tokens
    limits.check({"input": fits}, 1_000)
    limits.check({"prompt": [fits] * 5}, 1_000)  # five requests
    for body in (
        {"input": fits + "y"},
        {"messages": [{"content": fits}], "tools": [{"name": "a"}]},
        {"prompt": [fits + "y"]},
    ):
        with pytest.raises(limits.TextError) as error:
            limits.check(body, 1_000)
        assert error.value.code == "context_length_exceeded"
        assert error.value.param in body


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"a": x}], ids=["lists", "objects"])
def test_deep_nesting_is_refused(wrap):
    value = "x"
    for _ in range(limits.DEEPEST - 1):
        value = wrap(value)
    limits.check({"tools": value}, ROOM)
    for _ in range(100_000):
        value = wrap(value)
    with pytest.raises(limits.TextError, match="nested deeper") as error:
        limits.check({"tools": value}, ROOM)
    assert error.value.param == "tools"


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda s: st.lists(s) | st.dictionaries(st.text(), s), max_leaves=20
    )
)
def test_any_json_is_looked_at(value):
    limits.check({"messages": value, "content": value}, ROOM)
