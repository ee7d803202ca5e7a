"""`tune pull`: a model repository at one commit -> a folder whose every file is proven.

Files arrive in a folder beside the place, `.<name>-<commit>.part`: one that is there whole is not fetched again. It
takes its place by one rename, after the Hub's digests and the manifest's have been held against it; without a manifest,
the Hub's and the structure of a GPT-OSS.
"""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tune import checkpoint
from tune.artefact import Artefact
from tune.checkpoint import KIND
from tune.errors import UserError, reason
from tune.hub import connection, contents
from tune.hub.connection import told
from tune.hub.contents import Repository, some
from tune.weights import shards, structure, tensors

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MANIFEST = f"{KIND}.json"
MODEL = ("*.json", "*.jinja", "model*.safetensors", "LICENSE*")  # of a model that is no checkpoint of ours
LIBRARYS = checkpoint.LIBRARYS  # where the library notes what it has


class Pulled(BaseModel):
    """What was proven. `served_name` and `format` are "" of a model without a manifest; sizes in bytes."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    repo: str
    commit: str
    kind: Literal["checkpoint", "model"]
    served_name: str = ""
    format: str = ""
    about: str = ""
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    bytes: int

    def text(self) -> str:
        """For people: what it is, and what to do with it."""
        base = ["[base]", f'model = "{self.repo}"', f'revision = "{self.commit}"']
        proven = f"{len(self.files)} files, {self.bytes / 1e9:.2f} GB, each proven"
        if self.kind == "model":
            served = "tune export --format base makes one for serve run"
            head = f"{self.folder}: {self.about}; no {MANIFEST}: {served}; {proven}"
            return "\n".join([head, "as the base of a recipe:", *base])
        head = f"{self.folder}: {self.served_name}, {self.format}, of {self.repo} at {self.commit}; {proven}"
        if self.format == "lora":
            return f"{head}\nan adapter: serve run BASE --adapter NAME={self.folder}"
        return "\n".join([f"{head}; next: serve run {self.folder}", "as the base of a recipe:", *base])


def pull(repo: str, revision: str, *, into: Path, say: Callable[[str], None] = lambda _: None) -> Pulled:
    """Fetch `repo` at a commit (a branch is resolved, and told) to the folder `into`, which holds nothing else.

    Raises UserError when the Hub refuses or fails, the disk is too small, a file is not what the Hub or the manifest
    says, or a repository without a manifest holds no whole GPT-OSS.
    """
    connection.name(repo)
    api = connection.session(write=False)
    with told(f"{repo} at {revision}"):
        there = _look(api, repo, revision)
    if revision != there.commit:
        say(f"pull: {revision} of {repo} is commit {there.commit}")
    again = shlex.join(["tune", "pull", repo, "--revision", there.commit, "--into", str(into)])
    place = into.resolve()
    part = place.with_name(f".{place.name}-{there.commit[:12]}.part")
    with told(repo, again):
        known = not contents.differing(place, [MANIFEST], there.files, anew=True)
        wanted = _wanted(api, repo, there, place if known else part)
    left_out = tuple(sorted(there.files.keys() - {*wanted}))
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        if not into.is_dir() or contents.differing(into, wanted, there.files) or _others(into, wanted):
            why = f"it is not {repo} at {there.commit[:12]}, and would be lost"
            raise UserError(f"{into} is taken", why=why, fix=f"move it away, then: {again}")
        say(f"pull: {into} is there already")
        return _proven(into, repo, there, wanted, left_out)
    _require_space(part, wanted, there)
    if left_out:
        say(f"pull: left out, since it is no part of it: {some(left_out)}")
    say(f"pull: {len(wanted)} files, {sum(there.files[n].size for n in wanted) / 1e9:.2f} GB")
    with told(repo, again):
        _fetch(repo, there, wanted, part, api.token)
    _require_same(part, repo, there, wanted, again)
    shutil.rmtree(part / LIBRARYS)
    made = _proven(part, repo, there, wanted, left_out)
    part.rename(place)  # over an empty folder, or where there is none
    return made.model_copy(update={"folder": into})


def _look(api: "HfApi", repo: str, revision: str) -> Repository:
    """The repository; of one that is no model, its type is told."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return contents.look(api, repo, revision)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        for other in ("dataset", "space"):
            if api.repo_exists(repo, repo_type=other):
                raise UserError(f"{repo} is a {other}, not a model", fix="name a model: OWNER/NAME") from None
        raise


def _wanted(api: "HfApi", repo: str, there: Repository, folder: Path) -> list[str]:
    """The files to have: those that the manifest names, or those that make a model."""
    if MANIFEST not in there.files:
        found = sorted(n for n in there.files if "/" not in n and any(PurePosixPath(n).match(p) for p in MODEL))
        if not any(n.endswith(".safetensors") for n in found):
            why = f"it has no {MANIFEST} and no model*.safetensors"
            raise UserError(f"{repo} holds no model that this reads", why=why, fix="name a GPT-OSS: openai/gpt-oss-20b")
        return found
    if contents.differing(folder, [MANIFEST], there.files, anew=True):
        api.hf_hub_download(repo, MANIFEST, revision=there.commit, local_dir=folder, force_download=True)
    text = (folder / MANIFEST).read_bytes()
    if not contents.is_text(there.files[MANIFEST], text):
        raise UserError(f"{MANIFEST} of {repo} arrived damaged", why="its digest differs", fix="the same command again")
    try:
        names = [*Artefact.model_validate_json(text).files, MANIFEST]
    except ValidationError as e:
        raise UserError(f"{MANIFEST} of {repo} is no manifest", why=reason(e), fix="push it again") from None
    if outside := [n for n in names if not _plain(n)]:
        raise UserError(
            f"{MANIFEST} of {repo} names {outside[0]!r:.120}", why="it is no file in it", fix="leave it alone"
        )
    if lacking := [n for n in names if n not in there.files]:
        raise UserError(f"{repo} lacks {some(lacking)}", why=f"named in its {MANIFEST}", fix="push it again")
    return sorted(names)


def _plain(name: str) -> bool:
    """A relative path that stays inside, and is none of the library's own."""
    parts = name.split("/")
    return bool(re.fullmatch(r"[^\\\0]+", name)) and not {"", ".", "..", LIBRARYS} & {*parts}


def _require_space(part: Path, wanted: list[str], there: Repository) -> None:
    needed = sum(there.files[n].size for n in wanted if not (part / n).is_file())
    try:
        shards.require_space(part, needed)
    except UserError as e:
        raise UserError(e.what, why=e.why, fix="free some space, or --into a folder on a larger disk") from None


def _fetch(repo: str, there: Repository, wanted: list[str], part: Path, token: str | bool | None) -> None:
    """Fetch those that are not there yet."""
    from huggingface_hub import snapshot_download

    names = [re.sub(r"([\[*?])", r"[\1]", n) for n in wanted]
    snapshot_download(repo, revision=there.commit, local_dir=part, allow_patterns=names, token=token)


def _require_same(part: Path, repo: str, there: Repository, wanted: list[str], again: str) -> None:
    """Hold what arrived against the Hub's list. What differs is taken away, to be fetched anew next time."""
    wrong = contents.differing(part, wanted, there.files, anew=True)
    for name in wrong:
        (part / name).unlink(missing_ok=True)
    if wrong:
        what = f"{some(wrong)} of {repo} did not arrive as the Hub has it"
        raise UserError(what, why="size or digest differ; it was taken away, the others stay", fix=again)


def _others(folder: Path, wanted: list[str]) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()} - {*wanted}


def _proven(folder: Path, repo: str, there: Repository, wanted: list[str], left_out: tuple[str, ...]) -> Pulled:
    """What the folder holds, by its manifest or else by its structure."""
    size = sum(there.files[n].size for n in wanted)

    def pulled(kind: Literal["checkpoint", "model"], **about: str) -> Pulled:
        files = tuple(wanted)
        return Pulled(
            folder=folder,
            repo=repo,
            commit=there.commit,
            kind=kind,
            files=files,
            left_out=left_out,
            bytes=size,
            **about,
        )

    if MANIFEST in wanted:
        found = checkpoint.verify(folder, remake=f"push it to {repo} again: it is not whole there")
        return pulled("checkpoint", served_name=found.served_name, format=found.format)
    config = shards.read_config(folder)[0]
    weights: checkpoint.Format = "mxfp4" if tensors.is_mxfp4(config) else "merged"
    inside = structure.look(folder, weights)
    if inside.faults or inside.shape is None:
        first = inside.faults[0]
        why = f"{first.what}: {first.why}" if first.why else first.what
        raise UserError(
            f"{repo} at {there.commit[:12]} is no whole GPT-OSS", why=why, fix=first.fix or "pull another one"
        )
    shape = inside.shape
    stored = "experts in MXFP4" if weights == "mxfp4" else "bf16"
    return pulled(
        "model", about=f"a GPT-OSS of {shape.num_hidden_layers} layers, {shape.num_local_experts} experts, {stored}"
    )
