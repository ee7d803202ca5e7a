"""Which questions a model may have met in training: question set and training texts in, shares and ids out. Pure.

Three signs, each apart: the prompt stands in a text word for word; 13 words in a row do (Brown et al. 2020,
appendix C, as `tune dataset` filters); a statement of the prompt's code does, whatever its layout, quotes and comments.

Where the answer is code it is looked for as the prompt is, if it is too long to be everybody's: what was trained on may
be the solution alone. And a call, wherever in a statement it stands, by whatever path its function goes. The answer to
a question whose passage stands in the prompt stands there too.
"""

import ast
import re
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from evalsuite.questions import Question
from tune.data.quality import GRAM, runs, words

LEAST = 8  # nodes of a statement's tree, names' contexts aside, and words of an answer: `f(x)` is everybody's
LONGEST = 20_000  # characters of code that are parsed
CALLS = ("call", "fix")  # graders of answers that call the function asked about

_FENCED = re.compile(r"(?ms)^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)^[ \t]*\1")
_SESSION = re.compile(r"(?m)^[ \t]*>>> ?(.*(?:\n[ \t]*\.\.\.(?: .*|$))*)")
_INLINE = re.compile(r"(`{1,2})([^`\n]+)\1")
_TELLS = re.compile(r"[(\[=]")  # a line of code too long to be everybody's has one of these


class Hits(BaseModel):
    """The questions that one sign tells of. `share` of all that were looked at, 0 for none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    share: float
    ids: tuple[str, ...]  # in the order of the questions


class Contamination(BaseModel):
    """What training texts hold of questions: by each sign, and by any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: int
    texts: int
    exact: Hits
    ngram: Hits
    ast: Hits
    any: Hits


class Trained(BaseModel):
    """How many of a report's held-out questions stand in a dataset, by any sign. Nothing in a report proves it again:
    the dataset does not lie beside it, so this is a stored fact, and `dataset` says of which folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: int = Field(ge=0)
    found: int = Field(ge=0)
    ids: tuple[str, ...] = ()  # the first of them
    texts: int
    dataset: str  # digest of its manifest
    tuned_on: str = Field(default="", exclude_if=lambda digest: not digest)  # the same of what tuned was trained on

    @property
    def share(self) -> float:
        return self.found / self.questions if self.questions else 0.0

    @property
    def elsewhere(self) -> bool:
        """Whether tuned is known to be trained on another dataset. False when it is not known."""
        return self.tuned_on not in ("", self.dataset)

    def unlike(self, questions: Sequence[Question]) -> str:
        """Why this cannot be about the held-out questions of a set; "" when it can."""
        known = {q.id for q in questions if q.split == "held-out"}
        if self.questions != len(known):
            return f"{self.questions} questions were looked for, and {len(known)} are held out"
        if others := [name for name in self.ids if name not in known]:
            return f"{others[0]!r} was found, and is no held-out question"
        if not len(self.ids) <= self.found <= self.questions:
            return f"{self.found} of {self.questions} were found, and {len(self.ids)} are named"
        return ""


class _Index(NamedTuple):
    """Where to look a text's words up. Values are positions of prompts and answers."""

    grams: dict[tuple[str, ...], set[int]]  # every 13 words in a row
    short: dict[tuple[str, ...], set[int]]  # whole prompts, or answers, of fewer words
    lengths: dict[str, set[int]]  # of those, by their first word
    begins: dict[tuple[str, ...], list[int]]  # the first 13 words of longer ones


def contamination(questions: Sequence[Question], texts: Iterable[str]) -> Contamination:
    """Look every text's words and statements up among the questions': time grows with the sum of both, not with the
    product."""
    solved = {i: q.answer for i, q in enumerate(questions) if q.code or q.kind == "code-signature"}
    told = {i: found for i, answer in solved.items() if len(found := words(answer)) >= LEAST}
    said, of = [*(words(q.prompt) for q in questions), *told.values()], [*range(len(questions)), *told]
    code, calls = defaultdict[str, set[int]](set), defaultdict[str, set[int]](set)
    for i, question in enumerate(questions):
        for statement in statements(question.prompt) | (statements(solved[i]) if i in solved else set()):
            code[statement].add(i)
    asked = {i: q.code.about.rpartition(".")[2] for i, q in enumerate(questions) if q.code and q.grader in CALLS}
    for i, name in asked.items():
        for call in _called(solved[i], frozenset({name})):
            calls[call].add(i)
    names = frozenset(asked.values()) if calls else frozenset()
    index, count = _index(said), 0
    exact, ngram, trees = set[int](), set[int](), set[int]()
    for text in texts:
        count += 1
        _look(words(text), index, said, exact, ngram)
        if code:
            trees.update(*(code[found] for found in statements(text) if found in code))
        if names:
            trees.update(*(calls[found] for found in _calls(text, names) if found in calls))

    def hits(found: Collection[int]) -> Hits:
        ids = tuple(questions[i].id for i in sorted(found))
        return Hits(count=len(ids), share=len(ids) / len(questions) if questions else 0.0, ids=ids)

    return Contamination(
        questions=len(questions),
        texts=count,
        exact=hits({of[i] for i in exact}),
        ngram=hits({of[i] for i in ngram}),
        ast=hits(trees),
        any=hits({of[i] for i in exact | ngram} | trees),
    )


def statements(text: str) -> set[str]:
    """The Python statements of at least LEAST nodes that stand in a text's code, nested ones too, each as its tree.
    What reads as a signature is none: functions of one page and another share `open(filename, mode='rb')`.

    Code is what is fenced, behind `>>>`, in backticks, indented, or on a line of its own. It is parsed and never run.
    """
    return {found for source in _sources(text) for found in _parsed(source[:LONGEST])}


def _index(said: Sequence[tuple[str, ...]]) -> _Index:
    index = _Index(defaultdict(set), defaultdict(set), defaultdict(set), defaultdict(list))
    for i, mine in enumerate(said):
        for gram in runs(mine, GRAM):
            index.grams[gram].add(i)
        if len(mine) >= GRAM:
            index.begins[mine[:GRAM]].append(i)
        elif mine:
            index.short[mine].add(i)
            index.lengths[mine[0]].add(len(mine))
    return index


def _look(
    text: tuple[str, ...], index: _Index, said: Sequence[tuple[str, ...]], exact: set[int], ngram: set[int]
) -> None:
    for at, gram in enumerate(runs(text, GRAM)):
        if gram in index.grams:
            ngram |= index.grams[gram]
            exact.update(i for i in index.begins.get(gram, ()) if text[at : at + len(said[i])] == said[i])
    for at, word in enumerate(text):
        for length in index.lengths.get(word, ()):
            exact |= index.short.get(text[at : at + length], set())


def _sources(text: str) -> Iterator[str]:
    fenced = [code for _, code in _FENCED.findall(text)]
    yield from map(textwrap.dedent, fenced)
    for found in _SESSION.findall(text):
        yield re.sub(r"(?m)^[ \t]*\.\.\. ?", "", found)
    for _, found in _INLINE.findall(text):
        yield found.strip()
    block = list[str]()
    for line in [*text.split("\n"), ""]:
        if line.startswith(("    ", "\t")) or (block and not line.strip()):
            block.append(line)
            continue
        if block:
            yield textwrap.dedent("\n".join(block))
            block = []
        if _TELLS.search(line):
            yield line.strip()
    if block:
        yield textwrap.dedent("\n".join(block))


@lru_cache(maxsize=20_000)  # training texts show one passage again and again
def _parsed(source: str) -> frozenset[str]:
    found = (node for node in _walked(source) if isinstance(node, ast.stmt))
    try:
        return frozenset(ast.dump(node) for node in found if _nodes(node) >= LEAST and not _signature(node))
    except (MemoryError, RecursionError):
        return frozenset()


def _walked(source: str) -> list[ast.AST]:
    """Every node of what is Python; none of what is not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in somebody's code is no news of ours
            return list(ast.walk(ast.parse(source)))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []


def _calls(text: str, names: frozenset[str]) -> set[str]:
    """The calls in a text's code of functions with these names. Only what names one is parsed."""
    sources = (source[:LONGEST] for source in _sources(text) if any(f"{name}(" in source for name in names))
    return {found for source in sources for found in _called(source, names)}


@lru_cache(maxsize=20_000)
def _called(source: str, names: frozenset[str]) -> frozenset[str]:
    """Each call that, of a bare name, would be a statement of LEAST nodes, and no signature: `a.b(1)` is `b(1)`."""
    found = set[str]()
    with suppress(MemoryError, RecursionError):
        for node in _walked(source):
            if isinstance(node, ast.Call) and (path := ast.unparse(node.func)).rpartition(".")[2] in names:
                if all(map(str.isidentifier, path.split("."))):
                    node.func = ast.Name(path.rpartition(".")[2])
                statement = ast.Expr(node)
                if _nodes(statement) >= LEAST and not _signature(statement):
                    found.add(ast.dump(statement))
    return frozenset(found)


def _nodes(node: ast.AST) -> int:
    return sum(not isinstance(part, ast.expr_context) for part in ast.walk(node))


def _signature(node: ast.stmt) -> bool:
    """A call that gives names alone, and by keyword names and constants."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    call = node.value
    given = [arg.value if isinstance(arg, ast.Starred) else arg for arg in call.args]
    return all(isinstance(arg, ast.Name) for arg in given) and all(
        isinstance(keyword.value, ast.Constant | ast.Name | ast.UnaryOp) for keyword in call.keywords
    )
