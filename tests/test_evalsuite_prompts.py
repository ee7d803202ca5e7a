from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.speed.prompts import TASK, made, read, sent
from evalsuite.speed.schedule import trace
from tune import harmony
from tune.errors import UserError


@given(seed=st.integers(0, 2**31), low=st.integers(20, 60), more=st.integers(0, 40))
@settings(max_examples=5, deadline=None)
def test_prompts_share_no_first_token_and_keep_to_their_lengths(seed: int, low: int, more: int) -> None:
    texts = made(30, f"{low}-{low + more}", seed=seed)
    ids = [harmony.encode(text) for text in texts]
    assert len({each[0] for each in ids}) == 30
    assert all(low <= len(each) <= low + more for each in ids)
    assert all(text.endswith(TASK) for text in texts)
    assert texts == made(30, f"{low}-{low + more}", seed=seed)
    assert {t.split()[0] for t in texts} != {t.split()[0] for t in made(30, f"{low}", seed=seed + 1)}


def test_one_length_is_kept_exactly_and_lengths_spread_evenly_between_two() -> None:
    assert {len(harmony.encode(text)) for text in made(20, "48", seed=1)} == {48}
    sizes = [len(harmony.encode(text)) for text in made(800, "30-49", seed=2)]
    assert set(sizes) == set(range(30, 50))
    found = sent(made(3, "48"), "48", 0)
    assert (found.requests, found.distinct, found.median_tokens, found.note) == (3, 3, 48, "")


@pytest.mark.parametrize("lengths", ["", "0", "10", "50-40", "a-b", "-5", "1e3", "9999999", "128-131073"])
def test_lengths_that_are_none_are_said(lengths: str) -> None:
    with pytest.raises(UserError, match="is no length of a prompt"):
        made(1, lengths)


def test_more_prompts_than_the_vocabulary_has_beginnings_for_are_refused() -> None:
    with pytest.raises(UserError, match="--prompts"):
        made(100_000)


def test_prompts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text('{"prompt": "one"}\n\n{"prompt": "two", "id": 3}\n')
    assert read(file) == ("one", "two")
    file.write_bytes('{"prompt": "a\u2028b\x85c"}\r\n{"prompt": "d\u2029"}\n'.encode())
    assert read(file) == ("a\u2028b\x85c", "d\u2029")
    for text, line in [('{"prompt": "one"}\n{"text": "two"}\n', 2), ("nothing\n", 1)]:
        file.write_text(text)
        with pytest.raises(UserError, match=f"line {line} of .* is no prompt"):
            read(file)
    file.write_text("")
    with pytest.raises(UserError, match="holds no prompt"):
        read(file)
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "none.jsonl")


def test_a_trace_starts_at_zero_and_a_wrong_one_is_said(tmp_path: Path) -> None:
    file = tmp_path / "trace.txt"
    file.write_text("10.5\n11\n11\n14.25\n")
    assert trace(file) == (0, 0.5, 0.5, 3.75)
    for text in ["", "1\n0.5\n", "1\ninf\n", "nan\n", "one\n"]:
        file.write_text(text)
        with pytest.raises(UserError, match="is no trace"):
            trace(file)
