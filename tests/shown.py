"""Finished pages and datasets of rows that a test spells out, hostile ones too: real files, honest manifests."""

import json
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tune import artefact, harmony, recipe
from tune.data import collect, dataset, page
from tune.data.block import Prose
from tune.data.page import Page
from tune.harmony import IGNORE, Message
from tune.recipe import Recipe

KINDS = ("section", "signature", "open-parameter")


class Read(HTMLParser):
    """Tags, attributes and text; refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " "
        if tag not in {"meta", "br", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " "

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data


def project(folder: Path, keys: str = "") -> Recipe:
    (folder / "recipe.toml").write_text(
        f'[project]\nname = "docs"\n[collect]\nmodules = ["heapq"]\n[evaluate]\nmodules = ["ast"]\n[dataset]\n{keys}\n'
    )
    return recipe.read(folder / "recipe.toml")


def a_page(name: str, *texts: str, title: str = "") -> Page:
    """A page of as many sections as texts, which are called §0, §1, …"""
    blocks = tuple(Prose(headings=(title or name, f"§{n}"), text=text) for n, text in enumerate(texts))
    return Page(id=name, title=title or name, module=name, blocks=blocks, source="s", licence="l")


def example(name: str, on: str, *, question: str = "Why?", answer: str = "Because.", analysis: str | None = "Hm.",
            kind: str = "section", effort: str = "low", heading: str = "§0") -> dict[str, Any]:  # fmt: skip
    messages = [
        {"role": "user", "content": question, "thinking": None},
        {"role": "assistant", "content": answer, "thinking": analysis},
    ]
    told = {"id": name, "page": on, "module": on, "kind": kind, "messages": messages, "effort": effort}
    return {**told, "provenance": f"s, {on}, {heading}, l", "check": "grounded"}


def row(told: dict[str, Any]) -> dict[str, Any]:
    """Its tokens; of texts that no tokenizer takes, or that are very long, those of a stand-in."""
    messages = [Message(**message) for message in told["messages"]]
    try:
        made = harmony.render_training(
            messages if len(str(messages)) < 9999 else harmony.PROBE, told["effort"], "2026-01-01"
        )
    except (UnicodeEncodeError, ValueError):
        made = harmony.Rendered(
            [harmony.START, 1, harmony.MESSAGE, 2, harmony.RETURN], [False, False, False, True, True]
        )
    return {
        "id": told["id"],
        "page": told["page"],
        "effort": told["effort"],
        "input_ids": made.ids,
        "labels": made.labels,
    }


def write(
    made: Recipe,
    pages: Sequence[Page],
    examples: Iterable[dict[str, Any]],
    *,
    held: Sequence[str] = (),
    dropped: dict[str, int] | None = None,
    failures: Sequence[dict[str, Any]] = (),
    samples: Sequence[Any] | None = None,
    raw: bool = False,
) -> None:
    """work/pages and work/dataset. `held`: the pages of eval. `samples`: the lines of dropped.jsonl. `raw`: rows all
    have the tokens of one, for many."""
    source, folder = made.work / "pages", made.work / "dataset"
    source.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    page.write(source / "pages.jsonl", pages)
    (source / "failures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in failures))
    figures = {"pages": len(pages), "failures": len(failures), "held_out": 2}
    artefact.finish(source, "pages", settings=collect.settings_of(made), figures=figures)
    one = {"input_ids": [1] * 200, "labels": [IGNORE] * 150 + [1] * 50}
    with (
        (folder / "examples.jsonl").open("w") as told,
        (folder / "train.jsonl").open("w") as train,
        (folder / "eval.jsonl").open("w") as eval_,
    ):
        for each in examples:
            told.write(json.dumps(each) + "\n")
            line = {"id": each["id"], "page": each["page"], "effort": each["effort"], **one} if raw else row(each)
            (eval_ if each["page"] in held else train).write(json.dumps(line) + "\n")
    if samples is not None:
        lines = [line if isinstance(line, str) else json.dumps(line) for line in samples]
        (folder / "dropped.jsonl").write_text("".join(line + "\n" for line in lines))
    inputs, settings = dataset.origin(made)
    artefact.finish(folder, "dataset", inputs=inputs, settings=settings, figures={"dropped": dropped or {}})
