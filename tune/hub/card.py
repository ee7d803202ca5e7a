"""The model card: a checkpoint, what it was made from and what a report says of it -> README.md as text.

Every value that the template writes is escaped: names, licences, notes and reasons are somebody's text, and neither
markup nor a line of its own comes from them. The same checkpoint and report give the same card, byte for byte.
"""

import json
import re
import shlex
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tune.artefact import Artefact
from tune.checkpoint import Checkpoint, Format
from tune.errors import UserError
from tune.hub import evaluation, lineage
from tune.weights import shards, tensors

if TYPE_CHECKING:
    import jinja2

FORMATS: dict[Format, str] = {
    "merged": "merged: the adapter is added to the base's weights, in bf16",
    "mxfp4": "mxfp4: the adapter is merged; experts in MXFP4, as in OpenAI's releases, the rest in bf16",
    "lora": "lora: the adapter alone; it needs its base",
}
# Not "quantized" for mxfp4: that is the base's own model in fewer bits. This one was trained further, and GPT-OSS
# itself is released in MXFP4.
RELATIONS: dict[Format, str] = {"merged": "finetune", "mxfp4": "finetune", "lora": "adapter"}
SPLITS = (
    ("held-out", "Held-out questions, about what it was not trained on"),
    ("taught", "Taught questions, about what it was trained on, in other words"),
    ("general", "General questions, about what no tuning should make a model forget"),
)
MARKUP = re.compile(r"([\\`*_\[\]<>|#~!&$])")


class Ready(str):
    """Text that is Markdown already."""


def render(
    found: Checkpoint,
    made: Artefact,
    *,
    repo: str,
    license: str,
    report: Path | None,
    say: Callable[[str], None] = lambda _: None,
) -> str:
    """The card of the checkpoint `found`, whose manifest is `made`, for the model repository `repo`.

    Raises UserError when a `report` was named and is not about it; the one that lies in the work folder is then left
    out, and the card says that the model is not evaluated, and why.
    """
    why, judged = "no report lies beside it", None
    path = report or found.folder.absolute().parent / "report.json"
    if report or path.exists():
        try:
            judged = evaluation.read(path, found.served_name)
        except UserError as e:
            if report:
                raise
            why = "the report beside it is not about exactly this checkpoint, or is not as it was written"
            say(f"push: the card will say that it is not evaluated: {e.what}")
    config = shards.config(found.folder)
    base, _, short = found.base.partition("@")
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", base, re.ASCII) and re.fullmatch(r"[0-9a-f]{40}", found.base_digest)
    text = _template().render(
        found=found,
        made=made,
        repo=repo,
        license=license,
        shape=tensors.shape_of(config),
        base=base,
        base_short=short,
        base_on_hub=base if hub else "",
        nano="" if base not in ("", "nano") else "nano" if not base else "of nano",
        layout=FORMATS[found.format],
        relation=RELATIONS[found.format],
        library="peft" if found.format == "lora" else "transformers",
        behind=lineage.of(found.folder, made),
        rows=lineage.rows,
        judged=judged,
        splits=SPLITS,
        unjudged=why,
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def escaped(value: object) -> str:
    """Text as one line of Markdown without any markup in it."""
    if isinstance(value, Ready):
        return value
    line = MARKUP.sub(r"\\\1", _line(value))
    return line.replace("://", ":\\//").replace("www.", "www\\.").replace("@", "\\@")


def code(value: object) -> Ready:
    """Inline code; of text that would end it, the text alone."""
    line = _line(value)
    return Ready(escaped(value) if not line or re.search(r"[`|]", line) else f"`{line}`")


def shell(value: object) -> Ready:
    """A word of a command, in a block that only another line could end."""
    return Ready(shlex.quote(_line(value)))


def yaml(value: object) -> Ready:
    """A scalar of the metadata: JSON's strings are YAML's."""
    return Ready(json.dumps(_line(value)))


def percent(share: float | None) -> str:
    """ "61.3%"; a dash for None."""
    return "–" if share is None else f"{share:.1%}"


def _line(value: object) -> str:
    """One line, without characters that steer a terminal or the direction of text."""
    words = " ".join(str(value).split())
    return "".join(c for c in words if unicodedata.category(c) not in {"Cc", "Cf", "Cs"})


@cache
def _template() -> "jinja2.Template":
    import jinja2

    env = jinja2.Environment(  # noqa: S701 - it is no HTML: `escaped` goes over every value
        undefined=jinja2.StrictUndefined,
        finalize=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters |= {"code": code, "shell": shell, "yaml": yaml, "percent": percent, "shown": lineage.shown}
    return env.from_string(Path(__file__).with_name("card.md.jinja").read_text(encoding="utf-8"))
