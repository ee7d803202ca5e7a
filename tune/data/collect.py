"""The collect stage: pages from the recipe's source -> work/pages (pages.jsonl and its neighbours, pages.json last).

Knows the sources by name and nothing about what a page says. Pages that document held-out modules never get into
pages.jsonl but into held_out.jsonl, which questions are made from and nothing is trained on; failures.jsonl has the
rest. What was fetched is kept in work/cache/pages, so an interrupted stage goes on where it stopped.
"""

import errno
import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from tune import artefact
from tune.artefact import Artefact
from tune.data import pagefiles
from tune.data.formats import included
from tune.data.page import VERSION, Failure, Page
from tune.data.pagefiles import HELD_OUT, Written
from tune.data.sources import folder, listing, network, repeats, stdlib
from tune.data.sources.asking import Ledger
from tune.errors import UserError
from tune.recipe import Recipe
from tune.terminal import one_line

KIND = "pages"
FOLDERS = {"folder", "sphinx"}  # sources that read recipe.collect.folder
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def collect(recipe: Recipe, report: Callable[[str], None] = lambda _: None, ledger: Ledger | None = None) -> Artefact:
    """Collect every page of the recipe's source; a finished stage made from the same recipe is kept as it is.

    Figures: pages, failures, failures_by (those by their kind), twins (addresses that gave a page again), held_out
    (pages of HELD_OUT: they document what questions come from), held_out_by (those by the reason: see `Page.held_out`),
    characters, code_blocks and tables (of pages). `ledger` is told what this run asks of the network. Raises UserError
    when the source is wrong, not one page came of it, most files of a folder gave none, the disk is full, or another
    run is collecting there.
    """

    def told(line: str) -> None:  # it may hold a stranger's words
        report(one_line(line))

    with _space(recipe.work), artefact.writing(recipe.work / KIND, KIND):
        return _collect(recipe, told, ledger or Ledger())


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """What decides, beside the source's contents, which pages there are."""
    settings = {
        **recipe.collect.about_pages,
        "held_out": sorted(recipe.evaluate.modules),
        "held_out_pages": HELD_OUT,
        "page_version": VERSION,
    }
    if recipe.collect.source == "stdlib":
        settings["python"] = platform.python_version()
    return settings


def _collect(recipe: Recipe, report: Callable[[str], None], ledger: Ledger) -> Artefact:
    made, settings = recipe.work / KIND, settings_of(recipe)
    inputs = {}
    if recipe.collect.source in FOLDERS:
        inputs["folder"] = _folder_digest(_folder(recipe))
    current = artefact.is_current(made, KIND, inputs=inputs, settings=settings)
    remote = recipe.collect.remote
    if current and not (remote and current.figures["failures"]):
        report(f"pages: {current.figures['pages']} are there already")
        return current

    def fill(fresh: Path) -> None:
        found = _source(recipe, report, ledger)
        written = pagefiles.write(fresh, found, recipe.evaluate.modules, report)
        _refuse(recipe, written)
        figures = written.figures
        artefact.finish(fresh, KIND, inputs=inputs, settings=settings, figures=figures)
        why = ", ".join(f"{reason} {n}" for reason, n in figures["held_out_by"].items())
        report(
            f"pages: {figures['pages']}, {figures['characters']:,} characters, {figures['failures']} failures, "
            f"{figures['held_out']} held out{f' ({why})' if why else ''}"
        )

    artefact.remake_folder(made, KIND, fill)
    return artefact.read(made, KIND, remake="tune collect")


@contextmanager
def _space(work: Path) -> Iterator[None]:
    """Say of a full disk what to do about it. What was fetched until then is kept."""
    try:
        yield
    except OSError as e:
        if e.errno not in _FULL:
            raise
        raise UserError(
            f"the pages cannot be written in {work}",
            why=e.strerror or str(e),
            fix="free space there, then tune collect: what was fetched is kept",
        ) from None


def _source(recipe: Recipe, report: Callable[[str], None], ledger: Ledger) -> Iterator[Page | Failure]:
    section = recipe.collect
    match section.source:
        case "stdlib":
            _refuse_held_out(section.modules, recipe.evaluate.modules)
            held_out = stdlib.pages(recipe.evaluate.modules, topics=False, key="evaluate.modules")
            return chain(stdlib.pages(section.modules, topics=section.topics), held_out)
        case "folder" | "sphinx":
            return folder.pages(_folder(recipe), section.source, report, recipe.work)
        case "web" | "site" | "brightdata":
            found = network.pages(section, recipe.work / "cache" / "pages", ledger, report)
            return repeats.without(found, recipe.work, report)


def _refuse_held_out(modules: list[str], held_out: list[str]) -> None:
    """The recipe refuses equal names; this refuses a package's part, such as xml.etree when xml is held out."""
    inside = [m for m in modules if any(m.startswith(h + ".") for h in held_out)]
    if inside:
        raise UserError(
            f"collect.modules names {', '.join(inside)}, part of a module in evaluate.modules",
            why="questions must be held out by module",
            fix="edit recipe.toml",
        )


def _folder(recipe: Recipe) -> Path:
    return recipe.folder / (recipe.collect.folder or "")


def _folder_digest(root: Path) -> str:
    """sha256 over the names and contents of every file that is read; of nothing when the folder is missing."""
    digest, found = hashlib.sha256(), listing.files(root)
    for name in [*found.pages, *filter(None, [found.licence]), *included.names(root, found.pages)]:
        try:
            contents = artefact.file_digest(root / name)
        except OSError:
            contents = "cannot be read"  # a failure of that page, when it is collected
        digest.update(os.fsencode(name) + f"\0{contents}\n".encode())
    return digest.hexdigest()


def _refuse(recipe: Recipe, written: Written) -> None:
    """Raise UserError when not one page came, or most of a folder gave none. Redirects are no loss."""
    held_out, pages = written.held_out.total(), written.weights["pages"]
    if not pages:
        reasons = [one_line(f"{failure.id}: {failure.reason}") for failure in written.first]
        if more := written.kinds.total() - len(reasons):
            reasons.append(f"and {more} more failures")
        if held_out:
            reasons.append(f"pages that document modules in evaluate.modules: {held_out}")
        raise UserError(
            "the source gave no page",
            why="\n       ".join(reasons),
            fix="edit [collect] in recipe.toml, then tune collect",
        )
    lost, had = written.losses.total(), pages + held_out
    if recipe.collect.source in FOLDERS and not recipe.collect.allow_failures and lost > had:
        most = written.losses.most_common(3)
        told = [f"{count} file{'s' if count > 1 else ''}: {one_line(reason)}" for reason, count in most]
        raise UserError(
            f"{lost} of {lost + had} files in collect.folder gave no page",
            why="\n       ".join(told),
            fix="mend the files or the folder, or set collect.allow_failures = true, then tune collect",
        )
