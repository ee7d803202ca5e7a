"""What lies in a model repository at a commit, and whether files on disk are the same.

A large file is known on the Hub by its sha256, a small one by git's own digest of it. Neither is believed of a file
here: it is read.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tune import checkpoint, digests

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD, OF_THE_HUB = checkpoint.CARD, checkpoint.OF_THE_HUB  # what it or push puts beside a checkpoint: no part of one


class Remote(NamedTuple):
    """A file on the Hub: bytes, the sha256 of a large one ("" of others), git's digest of a small one."""

    size: int
    sha256: str
    blob: str


class Repository(NamedTuple):
    """A model repository as it is: its visibility, the commit that was asked for, and that commit's files by path."""

    private: bool
    commit: str
    files: dict[str, Remote]


def look(api: "HfApi", repo: str, revision: str) -> Repository:
    """The repository at a branch or commit. Raises what the library raises."""
    from huggingface_hub import RepoFile

    about = api.model_info(repo, revision=revision)
    if not about.sha:
        raise ValueError(f"the Hub names no commit of {repo} at {revision}")
    tree = api.list_repo_tree(repo, recursive=True, revision=about.sha)
    files = {
        found.path: Remote(found.lfs.size if found.lfs else found.size, found.lfs.sha256 if found.lfs else "", oid)
        for found in tree
        if isinstance(found, RepoFile) and (oid := found.blob_id)
    }
    return Repository(bool(about.private), about.sha, files)


def is_text(remote: Remote, text: bytes) -> bool:
    """Whether a file on the Hub holds exactly these bytes."""
    import hashlib

    from huggingface_hub.utils.sha import git_hash

    if remote.size != len(text):
        return False
    if remote.sha256:
        return hashlib.sha256(text).hexdigest() == remote.sha256
    return git_hash(text) == remote.blob


def differing(folder: Path, names: Iterable[str], files: Mapping[str, Remote], *, anew: bool = False) -> list[str]:
    """Those of `names` that are not the same in the folder and on the Hub, missing ones included, in order.

    `anew`: read every file, whatever is remembered of it.
    """
    names = sorted(names)
    here = [n for n in names if n in files and (folder / n).is_file() and _size(folder / n) == files[n].size]
    large = [n for n in here if files[n].sha256]
    found = dict(digests.each(folder, large, anew=anew))
    same = {n for n in large if found[n] == files[n].sha256}
    same |= {n for n in here if not files[n].sha256 and is_text(files[n], (folder / n).read_bytes())}
    return [n for n in names if n not in same]


def some(names: Iterable[str], most: int = 5) -> str:
    """The first names in one line."""
    every = sorted(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if every[most:] else "")


def _size(path: Path) -> int:
    return path.stat().st_size
