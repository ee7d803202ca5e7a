"""The rebuilt tokenizer gives the ids of the harmony library."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune import harmony
from tune.weights import tokenizer

CONTROL = [harmony.decode([i]) for i in (harmony.START, harmony.RETURN, harmony.CHANNEL, harmony.RANKS, 200_500)]
TEXT = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            [*CONTROL, "  ", "\r\n", "'LL", "don't", "Ελλάς", "日本語", "👩‍👩‍👧", "e\u0301", "\u200d", "1234567"]
        ),
        st.text(alphabet="aA =-\n./", min_size=1, max_size=30),  # long runs: where merges compete
    ),
    max_size=8,
).map("".join)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.build(folder)
    return folder


@pytest.fixture(scope="session")
def loaded(built: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(built)


@settings(max_examples=300, deadline=None)
@given(text=TEXT)
def test_ids_equal_the_harmony_librarys(loaded: Any, text: str) -> None:
    ids = harmony.encode(text)
    assert loaded.encode(text, add_special_tokens=False, split_special_tokens=True) == ids
    assert loaded.decode(ids) == text


def test_every_letter_is_split_as_the_library_splits_it(loaded: Any) -> None:
    """The two regex engines carry Unicode tables of their own: one text a character, of every 7th character."""
    texts = [f"a{chr(c)}B {chr(c)}{chr(c)}1" for c in range(0, 0x3FFFF, 7) if not 0xD800 <= c < 0xE000]
    got = loaded.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    assert [t for t, g in zip(texts, got, strict=True) if g.ids != harmony.encode(t)] == []


def test_control_tokens_have_the_harmony_ids(loaded: Any) -> None:
    """Not split, a spelled-out control token becomes the id: the way in that `split_special_tokens` closes."""
    assert len(loaded) == harmony.VOCABULARY
    assert loaded.encode("".join(CONTROL), add_special_tokens=False) == [200_006, 200_002, 200_005, 199_998, 200_500]
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (199_998, 200_002, 199_999)


def planted(built: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> list[str]:
    """The faults of the same tokenizer with a change to its JSON."""
    found = json.loads((built / "tokenizer.json").read_bytes())
    change(found)
    (folder / "tokenizer.json").write_text(json.dumps(found))
    return [str(fault) for fault in tokenizer.faults(folder)]


def swap_ids(found: dict[str, Any]) -> None:
    """A thousand pairs of tokens that no text of ours need hold."""
    vocabulary = found["model"]["vocab"]
    names = sorted(vocabulary, key=vocabulary.get)[-2000:]
    for a, b in zip(names[::2], names[1::2], strict=True):
        vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]


def swap_merges(found: dict[str, Any]) -> None:
    merges = found["model"]["merges"]
    merges[400_000], merges[400_100] = merges[400_100], merges[400_000]


def digits(found: dict[str, Any]) -> None:
    pattern = found["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    pattern["Regex"] = pattern["Regex"].replace("{1,3}", "{1,2}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (swap_ids, "is not GPT-OSS's: 2,000 of 199,998 tokens have other ids ("),
        (swap_merges, "is not GPT-OSS's: it merges in another order ("),
        (digits, "is not GPT-OSS's: it gives other ids ("),
        (lambda found: found["model"].update(type="x"), "cannot be read ("),
    ],
)
def test_a_tokenizer_that_gives_other_ids_is_told_apart(
    built: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    (found,) = planted(built, tmp_path, change)
    assert says in found


def test_equal_contents_are_judged_once_and_named_where_they_lie(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tokenizer.faults(built) == []
    monkeypatch.setattr(tokenizer, "_judge", lambda _: pytest.fail("it was judged again"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copyfile(built / "tokenizer.json", tmp_path / name / "tokenizer.json")
        assert tokenizer.faults(tmp_path / name) == []
    assert "cannot be read" in str(tokenizer.faults(tmp_path)[0])


def test_what_was_found_right_is_remembered_and_nothing_else(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    judged: list[bytes] = []

    def judge(data: bytes) -> tuple[str, str]:
        judged.append(data)
        return ("", "") if data == b"1" else ("is wrong", "why")

    monkeypatch.setattr(tokenizer, "_judge", judge)

    def faults(text: bytes) -> int:
        tokenizer._judged.clear()  # as in another process
        (tmp_path / "tokenizer.json").write_bytes(text)
        return len(tokenizer.faults(tmp_path))

    assert (faults(b"1"), faults(b"1"), len(judged)) == (0, 0, 1)
    (mark,) = (tmp_path / "cache/gptoss-kit/tokenizers").iterdir()
    assert (faults(b"2"), faults(b"2"), len(judged)) == (1, 1, 3)
    mark.chmod(0o666)  # then anybody could have made it
    assert (faults(b"1"), len(judged)) == (0, 4)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert (faults(b"1"), len(judged)) == (0, 5)
    tokenizer._judged.clear()


def test_a_vocabulary_that_gives_other_merges_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tokenizer.ranks()
    whole.pop(b" the")
    monkeypatch.setattr(tokenizer, "ranks", lambda: whole)
    with pytest.raises(RuntimeError, match="merges, not 446189"):
        tokenizer.build(tmp_path)
    assert list(tmp_path.iterdir()) == []
