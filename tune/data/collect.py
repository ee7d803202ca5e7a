"""The collect stage: pages from the recipe's source -> work/pages (pages.jsonl and its neighbours, pages.json last).

Knows the sources by name and nothing about what a page says. Pages that document held-out modules never get into
pages.jsonl but into held_out.jsonl, which questions are made from and nothing is trained on; failures.jsonl has the
rest. What was fetched is kept in work/cache/pages, so an interrupted stage goes on where it stopped.
"""

import hashlib
import os
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from tune import artefact
from tune.artefact import Artefact
from tune.data.collected import kinds
from tune.data.formats import included
from tune.data.html import REDIRECT
from tune.data.page import VERSION, Failure, Page, write
from tune.data.sources import folder, listing, network, repeats, stdlib
from tune.data.sources.asking import Ledger
from tune.data.sources.remote import Twin
from tune.errors import UserError
from tune.recipe import Recipe

KIND = "pages"
HELD_OUT = "held_out.jsonl"
FOLDERS = {"folder", "sphinx"}  # sources that read recipe.collect.folder


def collect(recipe: Recipe, report: Callable[[str], None] = lambda _: None, ledger: Ledger | None = None) -> Artefact:
    """Collect every page of the recipe's source; a finished stage made from the same recipe is kept as it is.

    Figures: pages, failures, failures_by (those by their kind), twins (addresses that gave a page again), held_out
    (pages of HELD_OUT: they document what questions come from), held_out_by (those by the reason: see `Page.held_out`),
    characters, code_blocks and tables (of pages). `ledger` is told what this run asks of the network. Raises UserError
    when the source is wrong, not one page came of it, most files of a folder gave none, or another run is collecting
    there.
    """
    with artefact.writing(recipe.work / KIND, KIND):
        return _collect(recipe, report, ledger or Ledger())


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

    pages, failures, left_out, held_out = [], [], list[Page](), Counter[str]()
    twins: list[Failure] = []
    for found in _source(recipe, report, ledger):
        if isinstance(found, Twin):
            twins.append(found)
        elif isinstance(found, Failure):
            failures.append(found)
            report(f"failed: {found.id}: {found.reason}")
        elif held := found.held_out(recipe.evaluate.modules):
            held_out[held.reason] += 1
            left_out.append(found)
        else:
            pages.append(found)
            if remote:
                report(f"page {len(pages)}: {found.id}")
    if not pages:
        raise UserError(
            "the source gave no page",
            why=_why(failures, held_out.total()),
            fix="edit [collect] in recipe.toml, then tune collect",
        )
    if recipe.collect.source in FOLDERS and not recipe.collect.allow_failures:
        _refuse_losses(failures, len(pages) + held_out.total())
    if remote:  # of a folder all was looked at, whatever is held out
        kept, gone = repeats.without([page.blocks for page in [*pages, *left_out]])
        every = [one.model_copy(update={"blocks": b}) for one, b in zip([*pages, *left_out], kept, strict=True)]
        pages, left_out = every[: len(pages)], every[len(pages) :]
        if gone:
            report(f"left out: {gone} blocks at the edges of pages that stand on many of them, such as menus")
    figures = {
        "pages": len(pages),
        "failures": len(failures),
        "failures_by": kinds(failures),
        "twins": len(twins),
        "held_out": held_out.total(),
        "held_out_by": dict(sorted(held_out.items())),
        "characters": sum(len(page.text) for page in pages),
        "code_blocks": sum(block.kind == "code" for page in pages for block in page.blocks),
        "tables": sum(block.kind == "table" for page in pages for block in page.blocks),
    }

    def fill(fresh: Path) -> None:
        write(fresh / "pages.jsonl", pages)
        write(fresh / HELD_OUT, left_out)
        write(fresh / "failures.jsonl", [*failures, *twins])
        artefact.finish(fresh, KIND, inputs=inputs, settings=settings, figures=figures)

    artefact.remake_folder(made, KIND, fill)
    why = ", ".join(f"{reason} {n}" for reason, n in sorted(held_out.items()))
    report(
        f"pages: {len(pages)}, {figures['characters']:,} characters, {len(failures)} failures, "
        f"{held_out.total()} held out{f' ({why})' if why else ''}"
    )
    return artefact.read(made, KIND, remake="tune collect")


def _source(recipe: Recipe, report: Callable[[str], None], ledger: Ledger) -> Iterator[Page | Failure]:
    section = recipe.collect
    match section.source:
        case "stdlib":
            _refuse_held_out(section.modules, recipe.evaluate.modules)
            held_out = stdlib.pages(recipe.evaluate.modules, topics=False, key="evaluate.modules")
            return chain(stdlib.pages(section.modules, topics=section.topics), held_out)
        case "folder" | "sphinx":
            return folder.pages(_folder(recipe), section.source, report)
        case "web" | "site" | "brightdata":
            return network.pages(section, recipe.work / "cache" / "pages", ledger, report)


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


def _refuse_losses(failures: list[Failure], had: int) -> None:
    """Most of a folder that gives nothing is a mistake in the folder or the reader. Redirects are no loss."""
    lost = [f.reason for f in failures if not f.reason.startswith(REDIRECT)]
    reasons = Counter(re.sub(r"0x\w+|'[^']*'|\d[\d,]*", "…", reason) for reason in lost)
    if reasons.total() > had:
        told = [f"{count} file{'s' if count > 1 else ''}: {reason}" for reason, count in reasons.most_common(3)]
        raise UserError(
            f"{reasons.total()} of {reasons.total() + had} files in collect.folder gave no page",
            why="\n       ".join(told),
            fix="mend the files or the folder, or set collect.allow_failures = true, then tune collect",
        )


def _why(failures: list[Failure], held_out: int) -> str:
    reasons = [f"{failure.id}: {failure.reason}" for failure in failures[:3]]
    if len(failures) > 3:
        reasons.append(f"and {len(failures) - 3} more failures")
    if held_out:
        reasons.append(f"{held_out} pages document modules in evaluate.modules")
    return "\n       ".join(reasons)
