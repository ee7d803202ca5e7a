"""What a documentation team would not accept is left out of closed-book questions, and counted by reason."""

import re
from collections import Counter
from collections.abc import Iterable

import pytest

from evalsuite import balance, freeze
from evalsuite.balance import Found
from evalsuite.pydocs import facts
from evalsuite.pydocs.build import ClosedBook, closed_book
from evalsuite.pydocs.documentation import DISAGREES, UNDOCUMENTED
from evalsuite.pydocs.facts import Module, Routine, harvest
from evalsuite.pydocs.harvest import FUNCTIONAL
from evalsuite.pydocs.lasting import BOUND, SENTINEL, removed
from evalsuite.questions import Question
from tune.errors import UserError
from tune.evaluate import Evaluate
from tune.recipe import Recipe

DEMO = ["array", "ast", "asyncio", "base64", "binascii", "bz2", "cmath", "codecs", "dataclasses", "inspect"]
DEMO += ["lzma", "numbers", "pickle", "platform", "selectors", "signal", "tarfile", "textwrap", "traceback"]


def asking(modules: Iterable[str], count: int = 100) -> Evaluate:
    return Evaluate(modules=list(modules), questions=count, book="closed", taught=0)


@pytest.fixture(scope="module")
def known() -> dict[str, Module]:
    names = ["pickle", "ftplib", "textwrap", "tarfile", "token", "errno", "sys", "signal", "enum", "logging", "cmath",
             "string", "configparser", "inspect", "http.client", "os", "array", "heapq"]  # fmt: skip
    return {m.name: m for m in harvest(names)}


@pytest.fixture(scope="module")
def demo() -> tuple[ClosedBook, list[Question], list[str]]:
    lines: list[str] = []
    made = closed_book(asking(DEMO, 200), lines.append)
    return made, list(made.questions), lines


def routine(module: Module, path: str) -> Routine:
    return next(r for r in module.routines if r.path == path)


def why(module: Module, path: str, name: str) -> str:
    """Why the default of a parameter is not asked."""
    r = routine(module, path)
    p = next(p for p in r.parameters if p.name == name)
    return r.unfit or p.unfit or p.default_unfit


def test_a_module_that_cannot_be_examined_is_skipped_by_name_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted = """
class Planted:
    def find_spec(name, path=None, target=None):
        if name == "wave":
            os._exit(9)
        if name == "sched":
            raise AttributeError("no such thing")
        if name == "plistlib":
            while True:
                pass
sys.meta_path.insert(0, Planted)
IMPORT_SECONDS = 5
"""
    source = facts._source()
    monkeypatch.setattr(facts, "_source", lambda: source + planted)
    names = ["pdb", "email", "wave", "xml", "sched", "plistlib", "telnetlib", "curses", "bisect"]
    lines: list[str] = []
    made = closed_book(asking(names), lines.append)
    assert {q.module for q in made.questions} >= {"pdb", "email", "bisect"}
    said = {
        "wave": "it ends the process that examines it",
        "xml": "it defines nothing that can be asked about",
        "sched": "AttributeError: no such thing",
        "plistlib": "TimeoutError: not done after 5 s",
        "telnetlib": "it is removed in Python 3.13",
    }
    assert made.skipped == said
    assert [line for line in lines if line.startswith("skipped")] == [
        f"skipped {name}: {said[name]}" for name in sorted(said)
    ]


def test_where_every_module_is_skipped_one_error_names_them_all() -> None:
    with pytest.raises(UserError, match="no question can be made") as e:
        freeze.make(Recipe(evaluate=asking(["xml", "crypt"])))
    assert e.value.why == "\n       ".join(
        [
            "xml, crypt",
            "crypt: it is removed in Python 3.13",
            "xml: it defines nothing that can be asked about",
        ]
    )


def test_a_sandbox_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_source", lambda: "raise SystemError('no room')\n")
    with pytest.raises(UserError, match=r"no module can be examined[^$]*no room"):
        harvest(["bisect"])


def test_what_an_import_warns_of_is_not_asked() -> None:
    assert removed("newlib", ["'newlib' is deprecated and slated for removal"])
    assert removed("tkinter.tix", [])
    assert not removed("newlib", ["'newlib.old' is deprecated", "'oldnewlib' is deprecated"])
    (sre,) = harvest(["sre_parse"])
    assert sre.error == "its import warns: module 'sre_parse' is deprecated"


def test_constants_of_a_version_or_platform_are_not_asked(known: dict[str, Module]) -> None:
    for module, name in (
        ("token", "TYPE_IGNORE"),
        ("errno", "ENOENT"),
        ("tarfile", "ENCODING"),
        ("sys", "warnoptions"),
        ("signal", "SIGUSR1"),
        ("pickle", "HIGHEST_PROTOCOL"),
        ("os", "linesep"),
    ):
        assert known[module].constants[name] == BOUND, name
    asked = {f"{m.name}.{name}" for m in known.values() for name, unfit in m.constants.items() if not unfit}
    lasting = {"logging.DEBUG", "cmath.pi", "string.ascii_letters", "tarfile.GNU_FORMAT", "configparser.DEFAULTSECT"}
    assert lasting <= asked
    assert not any(name.startswith(("token", "errno", "sys", "os.", "signal")) for name in asked)
    assert known["pickle"].constants["BINPUT"] == UNDOCUMENTED  # in __all__ by a pattern


def test_what_no_docstring_describes_is_not_asked(known: dict[str, Module]) -> None:
    assert routine(known["configparser"], "DuplicateOptionError").parameters
    assert why(known["configparser"], "ConfigParser", "inline_comment_prefixes") == UNDOCUMENTED
    assert routine(known["signal"], "struct_siginfo").unfit == UNDOCUMENTED  # a tuple's own signature
    assert routine(known["array"], "array.extend").parameters[0].unfit == UNDOCUMENTED  # a name that none can use
    assert routine(known["inspect"], "BoundArguments.apply_defaults").unfit == ""


def test_an_enum_s_functional_interface_is_not_asked(known: dict[str, Module]) -> None:
    assert {routine(known["signal"], "Signals").unfit, routine(known["enum"], "Flag").unfit} == {FUNCTIONAL}


def test_what_the_docstring_contradicts_is_not_asked(known: dict[str, Module]) -> None:
    assert why(known["pickle"], "Unpickler", "buffers")  # () in C, None in the documentation
    assert not why(known["pickle"], "Unpickler", "errors")
    assert why(known["ftplib"], "FTP.connect", "timeout") == SENTINEL  # -999
    assert why(known["ftplib"], "FTP.connect", "host") == DISAGREES  # "default previous host"
    assert why(known["tarfile"], "TarFile", "encoding")
    assert why(known["http.client"], "HTTPConnection", "timeout")  # an object; as is the machine's time limit
    assert routine(known["textwrap"], "TextWrapper").order_unfit == DISAGREES
    assert not why(known["textwrap"], "TextWrapper", "expand_tabs")  # "default: true"


def test_what_is_left_out_is_counted_and_said(demo: tuple[ClosedBook, list[Question], list[str]]) -> None:
    made, questions, lines = demo
    assert {BOUND, UNDOCUMENTED, DISAGREES, SENTINEL, FUNCTIONAL} <= set(made.left_out)
    (line,) = (line for line in lines if line.startswith("left out: "))
    assert line == "left out: " + ", ".join(f"{why} {n}" for why, n in sorted(made.left_out.items()))
    (total,) = (int(m[1]) for line in lines if (m := re.search(r"of (\d+) candidates", line)))
    assert len(questions) + sum(made.left_out.values()) == total
    header = freeze.make(Recipe(evaluate=asking(["bisect", "xml"])))
    assert header.left_out
    assert header.skipped == {"xml": "it defines nothing that can be asked about"}


def test_no_function_gives_more_than_its_share_of_the_sessions(
    demo: tuple[ClosedBook, list[Question], list[str]],
) -> None:
    _, questions, lines = demo
    for kind in ("session", "mutated"):
        asked = Counter(m[0] for q in questions if q.kind == kind for m in [re.findall(r"(\w+)\(", q.prompt)])
        assert asked
        assert max(asked.values()) == 1, asked
    assert any(line.startswith("session: ") and "its share" in line for line in lines)
    assert any(line.startswith("too few for an even set of 200: ") and "mutated 2" in line for line in lines)


def test_an_object_s_share_is_bounded_and_objects_take_turns() -> None:
    """Truths that all differ let nothing else decide: then objects take turns."""

    def found(about: str, n: int) -> list[Found]:
        made = (
            Question(id=f"{about}{i}", kind="k", module="m", prompt="", answer="", grader="exact") for i in range(n)
        )
        return [Found(q.id, "m", q, about) for q in made]

    few = balance.spread([*found("a", 50), *found("b", 50), *found("c", 1)], balance.rng(0, ""))
    assert Counter(q.id[0] for q in few) == {"a": 1, "b": 1, "c": 1}
    many = [f for letter in "abcdefghijklmnop" for f in found(letter, 3)]
    spread = balance.spread([*found("z", 500), *many], balance.rng(0, ""))
    said = Counter(q.id[0] for q in spread)
    assert said["z"] <= len(spread) / 8
    assert len(spread) > 16 * 3
    assert len({q.id[0] for q in spread[:17]}) == 17
