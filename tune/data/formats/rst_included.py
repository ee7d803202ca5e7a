"""reStructuredText's directives that read other files, for docutils: include, literalinclude, csv-table with a file.

In: a directive that docutils runs, whose document knows its place. Out: nodes; what `included` does not find is left
out. Knows nothing about other directives.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tune.data.formats import included


def included_text(self: Any, learn: Callable[[str], None]) -> Sequence[Any]:
    """The file's text goes on where the directive stands; `learn` is told it first. Files in a circle end."""
    path = _found(self)
    if path is None or not self.arguments:
        return []
    settings = self.state.document.settings
    current = str(self.state_machine.get_source(self.lineno) or "")
    around = settings.included.get(current, frozenset()) | {current, str(settings.place.file)}
    if str(path) in around:
        return []
    settings.included[str(path)] = around
    text = included.selected(included.text(path), self.options)
    if "literal" in self.options or "code" in self.options:
        return [_block(text, self.options.get("code") or "none")]
    learn(text)
    self.state_machine.insert_input(["", *text.split("\n"), ""], str(path))
    return []


def literal(self: Any) -> Sequence[Any]:
    """The file's lines as code, in the language that is said or that the file's name says."""
    from docutils import nodes

    path = _found(self)
    text = included.selected(included.text(path), self.options).strip("\n") if path else ""
    if path is None or not text.strip():
        return []
    spoken = "diff" if "diff" in self.options else self.options.get("language") or path.suffix.removesuffix(".txt")
    caption = self.options.get("caption")
    said, _ = self.state.inline_text(caption or "", self.lineno)
    return [*([nodes.paragraph("", "", *said)] if caption else []), _block(text, spoken.lstrip(".") or "none")]


def table(self: Any, run: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    """docutils' own csv-table, whose rows are the file's when it names one."""
    from docutils.statemachine import StringList

    if "file" in self.options:
        path = _found(self, self.options.pop("file"))
        if path is None or not (text := included.text(path)):
            return []
        self.content = StringList(text.splitlines(), str(path))
    return run()


def _found(self: Any, said: str = "") -> Path | None:
    place = getattr(self.state.document.settings, "place", None)
    said = said or (self.arguments[0] if self.arguments else "")
    if said.startswith("<") and said.endswith(">"):
        return _standard(said[1:-1])
    current = Path(str(self.state_machine.get_source(self.lineno) or ""))
    return place.find(said, *([current.parent] if current.is_absolute() else [])) if place else None


def _standard(name: str) -> Path | None:
    """A file of substitutions that docutils brings: <isonum.txt>."""
    from docutils.parsers import rst

    path = Path(rst.__file__).parent / "include" / Path(name).name
    return path if path.is_file() else None


def _block(text: str, spoken: str) -> Any:
    from docutils import nodes

    return nodes.literal_block(text, text, classes=[f"highlight-{spoken}"])
