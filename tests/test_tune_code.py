import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.data import code


def fenced(source, tag="python"):
    return f"Some prose.\n\n```{tag}\n{source}\n```\n"


@pytest.mark.parametrize(
    "source",
    [
        "x = 1",
        ">>> for i in range(2):\n...     print(i)\n0\n1\n>>> 2 +\\\n... 2\n4",
        "In [1]: def f():\n   ...:     return 1\n   ...:\n\nIn [2]: f()\nOut[2]: 1",
        "f(a[, b])",
        "range(start, stop[, step]) -> range\n\nReturn it.",
        "heapq.merge(*iterables, key=None, reverse=False)",
        "int.from_bytes(bytes, /, byteorder='big', *, signed=False)",
        "class click.Abort",
        "property meta: Dict[str, Any]",
        "def f(a, b):",
        "class Foo(Bar):\n    ...",
        "with open(path) as f:\n    # read it here",
        "try:\n    # ...\nexcept ValueError:\n    pass",
        "print([1, 2, ..., 9])",
        "d = {..., 'a': 1}\nprint(d)",
        "%matplotlib inline\nimport numpy as np\n!pip install numpy",
        "    if x:\n        return 1",
        "$ pip install click",
        "SELECT a FROM b WHERE c = 1",
        "await f()",
        "case 401 | 403",
        "def f(l):\n    ... do something ...\n    return l",
        "class ClassName:\n    <statement-1>\n    .\n    .\n    <statement-N>",
        "with open(<file>) as f:\n    ....",
        "loads(s, *[, cls])\n\nfrom json import loads\nloads('1')",
        "exception json.Broken\n\nraise Broken",
    ],
)
def test_what_documentation_shows_stays(source):
    assert code.problem(fenced(source)) == ""


@pytest.mark.parametrize(
    "source",
    [
        "print 'hello'",
        ">>> print textwrap.fill(S)\nThis",
        "def f(x)\n    return x",
        "for i in range(3):\nprint(i)",
        "import os\nx = (1,\nprint(x)",
        "def f():\n    return {'a': 1)",
    ],
)
def test_what_does_not_parse_is_named(source):
    assert code.problem(fenced(source)).startswith("line ")
    assert code.problem(fenced(source, "pycon")) != ""
    assert code.problem(fenced(source, "")) == ""  # it does not say what it is
    assert code.problem(fenced(source, "sh")) == ""


def test_names_layout_and_comments_make_no_other_program():
    one = fenced("def f(items):\n    total = 0\n    for item in items:\n        total += len(item)\n    return total")
    two = fenced("def count(xs):\n  n=0  # all\n  for x in xs: n += len(x)\n  return n", "py")
    three = fenced(">>> def g(a):\n...     b = 0\n...     for c in a:\n...         b += len(c)\n...     return b", "")
    assert len(code.shapes(one)) == 1
    assert code.shapes(one) == code.shapes(two) == code.shapes(three)


@pytest.mark.parametrize(
    "other",
    [
        "def f(items):\n    total = 0\n    for item in items:\n        total += max(item)\n    return total",
        "def f(items):\n    total = 1\n    for item in items:\n        total += len(item)\n    return total",
        "def f(items):\n    total = 0\n    for item in items:\n        total += len(items)\n    return total",
        "def f(items):\n    total = 0\n    for item in items:\n        total += size(item)\n    return total",
    ],
)
def test_another_function_value_or_variable_makes_another(other):
    one = fenced("def f(items):\n    total = 0\n    for item in items:\n        total += len(item)\n    return total")
    assert code.shapes(one).isdisjoint(code.shapes(fenced(other)))


def test_a_name_from_elsewhere_is_itself():
    one, other = (fenced(f"import {m}\nx = {m}.first([3, 1, 2])\ny = {m}.last(x)") for m in ("heapq", "bisect"))
    assert code.shapes(one).isdisjoint(code.shapes(other))
    one, other = (fenced(f"x = {f}([3, 1, 2])\ny = {f}(x, 4)\nprint(y)") for f in ("heapify", "insort"))
    assert code.shapes(one).isdisjoint(code.shapes(other))


def test_small_code_is_everybodys():
    assert code.shapes(fenced("x = f(1)")) == set()


@given(st.text(), st.sampled_from(["python", "pycon", "", "js"]))
def test_any_text_is_looked_at(text, tag):
    code.problem(fenced(text, tag))
    code.shapes(fenced(text, tag))
    code.problem(text)


def test_a_line_of_marks_alone_is_read_in_no_time():
    """A pattern that goes back over each of them takes a minute for these; a thousand times as long as the text."""
    for mark in "`~":
        assert code.problem(mark * 200_000) == ""
