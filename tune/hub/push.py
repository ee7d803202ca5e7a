"""`tune push`: a proven checkpoint folder -> one commit of a model repository, read back and compared.

One commit (`create_commit`), so that nobody ever sees half of it: `upload_large_folder` is on its way out, makes
several and writes into the folder, and `upload_folder` may make several too. A large file that arrived before a push
broke off is not sent again: the Hub keeps what it has by digest. The library digests what it sends itself: were it told
the manifest's digest, a file changed meanwhile would read back as right.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from tune import artefact, checkpoint
from tune.checkpoint import Checkpoint
from tune.errors import UserError
from tune.hub import card, connection, contents
from tune.hub.connection import told
from tune.hub.contents import CARD, OF_THE_HUB, Repository, some

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN, LICENCE = "main", "apache-2.0"  # unless told otherwise


class Pushed(BaseModel):
    """What lies on the Hub now; of a dry run, what would: `commit` is "" then. `wrote` and `deleted` are paths."""

    model_config = ConfigDict(frozen=True)

    repo: str
    branch: str
    private: bool
    created: bool
    commit: str
    url: str
    served_name: str
    format: checkpoint.Format
    wrote: tuple[str, ...]
    deleted: tuple[str, ...]
    card: str

    def text(self) -> str:
        """For people: where it is, and how to have it."""
        seen = "private" if self.private else "public"
        if not self.commit:
            new = "a new repository" if self.created else "the repository that is there"
            gone = f", deleting {some(self.deleted)}" if self.deleted else ""
            sent = f"nothing was sent; it would write {len(self.wrote)} files to {self.repo} ({seen}, {new}){gone}"
            return f"{self.card}\n{sent}"
        lines = [
            f"pushed: {self.served_name} is {self.repo} at {self.commit} ({seen}), every file read back",
            self.url,
            f"to have it: tune pull {self.repo} --revision {self.commit}",
        ]
        if self.format != "lora":
            lines += ["as the base of a recipe:", "[base]", f'model = "{self.repo}"', f'revision = "{self.commit}"']
        return "\n".join(lines)


def push(
    folder: Path,
    repo: str,
    *,
    public: bool = False,
    report: Path | None = None,
    license: str = LICENCE,
    branch: str = MAIN,
    replace: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Pushed:
    """Put the checkpoint in `folder` into the model repository `repo`, private unless `public`.

    `report` is the report.json whose verdict the card states; without one, that of the work folder around the
    checkpoint. Raises UserError when the checkpoint is not whole, the repository holds anything else and not
    `replace`, its visibility is another one, and when the Hub refuses, fails, or has other files in the end.
    """
    connection.name(repo)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,60}", license):
        why = "it is a name such as apache-2.0, mit or other"
        raise UserError(f"{license!r:.80} is no licence", why=why, fix="--license apache-2.0")
    if re.fullmatch(r"[0-9a-f]{40}", branch):
        raise UserError(f"{branch} is a commit", why="one is written to a branch", fix=f"--revision {MAIN}")
    say(f"push: proving {folder}")
    found = checkpoint.verify(folder)
    made = artefact.read(folder, checkpoint.KIND, remake=found.remake)
    if clash := sorted({*OF_THE_HUB} & made.files.keys()):
        raise UserError(f"{folder} has a {clash[0]} of its own", why="the Hub keeps its own there", fix=found.remake)
    text = card.render(found, made, repo=repo, license=license, report=report, say=say)
    again = _command(folder, repo, public, report, license, branch)

    if dry_run and not connection.has_token():
        say("push: without a token what the Hub has is not looked at")
        there, new_branch = None, False
    else:
        api = connection.session(write=True)
        there, new_branch = _there(api, repo, branch)
    if there is not None:
        _same_visibility(repo, there, public)
    names = [*made.files, f"{checkpoint.KIND}.json"]
    files = there.files if there else {}
    write = contents.differing(folder, names, files)
    if CARD not in files or not contents.is_text(files[CARD], text.encode()):
        write.append(CARD)
    delete = sorted(files.keys() - {*names, *OF_THE_HUB})
    lost = [*(name for name in write if name in files), *delete]
    if lost and not (replace or new_branch):
        why = f"it would overwrite or delete {some(lost)}"
        raise UserError(f"{repo} holds other contents at {branch}", why=why, fix=f"{again} --replace, or another name")

    def result(commit: str) -> Pushed:
        return Pushed(
            repo=repo,
            branch=branch,
            private=not public,
            created=there is None,
            commit=commit,
            url=_url(repo, commit),
            served_name=found.served_name,
            format=found.format,
            wrote=tuple(write),
            deleted=tuple(delete),
            card=text,
        )

    if dry_run:
        return result("")
    with told(repo, again):
        if there is None:
            api.create_repo(repo, private=not public, repo_type="model")
        if new_branch:
            api.create_branch(repo, branch=branch, exist_ok=True)
        now = contents.look(api, repo, branch)
    _same_visibility(repo, now, public)  # before the first byte: an organisation may have rules of its own
    say(f"push: {len(write)} files to {repo}")
    with told(repo, again):
        commit = _commit(api, folder, repo, branch, found, text, write, delete, now) if write or delete else now.commit
    say("push: reading back what the Hub has")
    with told(repo, again):
        after = contents.look(api, repo, commit)
    _require_same(folder, repo, after, names, text, again)
    return result(commit)


def _command(folder: Path, repo: str, public: bool, report: Path | None, license: str, branch: str) -> str:
    """The command that was given, but for what only looks or overwrites."""
    words = ["tune", "push", str(folder), "--to", repo, *(["--public"] if public else [])]
    words += [*(["--report", str(report)] if report else []), *(["--license", license] if license != LICENCE else [])]
    return shlex.join([*words, *(["--revision", branch] if branch != MAIN else [])])


def _there(api: "HfApi", repo: str, branch: str) -> tuple[Repository | None, bool]:
    """The repository at the branch, None without a repository; and whether the branch has to be made, from main."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    with told(repo):
        try:
            return contents.look(api, repo, branch), False
        except RevisionNotFoundError:
            return contents.look(api, repo, MAIN), True
        except RepositoryNotFoundError:
            return None, branch != MAIN


def _same_visibility(repo: str, there: Repository, public: bool) -> None:
    """Refuse weights that would be seen by others than was asked for."""
    if there.private == (not public):
        return
    is_, asked = ("private", "public") if there.private else ("public", "private")
    fix = "leave --public out" if public else f"--public, or another name, or make {_url(repo)}/settings private"
    raise UserError(f"{repo} is {is_}", why=f"it is to be pushed {asked}, and nothing was sent", fix=fix)


def _commit(
    api: "HfApi",
    folder: Path,
    repo: str,
    branch: str,
    found: Checkpoint,
    text: str,
    write: list[str],
    delete: list[str],
    now: Repository,
) -> str:
    """One commit on top of exactly what was looked at; the id of it."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    changes: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(name, text.encode() if name == CARD else folder / name) for name in write
    ]
    changes += [CommitOperationDelete(name, is_folder=False) for name in delete]
    message = f"{found.served_name}, {found.format}"
    made = api.create_commit(repo, changes, commit_message=message, revision=branch, parent_commit=now.commit)
    return str(made.oid)


def _require_same(folder: Path, repo: str, after: Repository, names: list[str], text: str, again: str) -> None:
    """Hold the Hub's own list against the folder."""
    wrong = contents.differing(folder, names, after.files)
    if CARD not in after.files or not contents.is_text(after.files[CARD], text.encode()):
        wrong.append(CARD)
    wrong += sorted(after.files.keys() - {*names, *OF_THE_HUB})
    if wrong:
        why = f"size or digest differ of {some(wrong)}"
        what = f"what {repo} has at {after.commit} is not the checkpoint in {folder}"
        raise UserError(what, why=why, fix=f"tune check {folder}, then: {again} --replace")


def _url(repo: str, commit: str = "") -> str:
    from huggingface_hub import constants

    url = connection.clean(constants.ENDPOINT)
    return f"{url}/{repo}/tree/{commit}" if commit else f"{url}/{repo}"
