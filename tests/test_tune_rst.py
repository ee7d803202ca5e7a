"""reStructuredText with Sphinx's directives and roles: minimal files and the blocks of them."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune.data.block import Admonition, Code, Fields, Item, List, Prose, Table
from tune.data.formats import rst

A = ("A",)


def prose(text, *headings):
    return Prose(headings=headings or A, text=text)


def code(text, language="", headings=A):
    return Code(headings=headings, language=language, text=text)


def read(text):
    return list(rst.read(f"A\n=\n\n{text}\n".encode(), "a").blocks)


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("Use ``a  b`` and *c*.\n\nB\n-\n\nd", [prose("Use `a b` and c."), prose("d", "A", "B")]),
        ("So::\n\n   x = 1\n\n     y", [prose("So:"), code("x = 1\n\n  y")]),
        (".. code-block:: c++\n   :linenos:\n   :name: x\n\n   int x;", [code("int x;", "c++")]),
        (".. code:: ruby\n   :number-lines:\n\n   x", [code("x", "ruby")]),
        (".. code-block:: python\n   :caption: Why *so*\n\n   x", [prose("Why so"), code("x", "python")]),
        (".. highlight:: c\n\n::\n\n   int x;\n\n.. sourcecode::\n\n   int y;", [code("int x;", "c"), code("int y;")]),
        (">>> 1 + 1\n2", [code(">>> 1 + 1\n2", "python")]),
        (">>> go()  # doctest: +SKIP\na\n<BLANKLINE>\nb\n\n::\n\n   # doctest: stays",
         [code(">>> go()\na\n\nb", "python"), code("# doctest: stays")]),
        (".. doctest::\n\n   >>> 1\n   1", [code(">>> 1\n1", "python")]),
        ("=== ===\n a   b\n=== ===\n1   2\n=== ===", [Table(headings=A, rows=(("a", "b"), ("1", "2")))]),
        (".. list-table::\n   :header-rows: 1\n\n   * - a\n     - b\n   * - 1\n     - ::\n\n          x",
         [Table(headings=A, rows=(("a", "b"), ("1", "x")))]),
        (".. csv-table:: Cap\n   :header: a, b\n\n   1, 2",
         [prose("Cap"), Table(headings=A, rows=(("a", "b"), ("1", "2")))]),
        (".. note:: Body.\n\n   More.", [Admonition(headings=A, title="Note", text="Body.\nMore.")]),
        (".. seealso::\n\n   Body.", [Admonition(headings=A, title="See also", text="Body.")]),
        (".. versionadded:: 3.7\n   Thing ``x``.", [prose("New in version 3.7: Thing `x`.")]),
        (".. versionchanged:: 3.8\n\n   Thing.", [prose("Changed in version 3.8: Thing.")]),
        (".. deprecated:: 3.9", [prose("Deprecated since version 3.9.")]),
        (".. deprecated-removed:: 3.9 3.11\n   Gone.",
         [prose("Deprecated since version 3.9, removed in version 3.11: Gone.")]),
        (".. danger:: Hot.", [Admonition(headings=A, title="Danger", text="Hot.")]),
        (".. dropdown:: Own *title*\n\n   Body.", [Admonition(headings=A, title="Own title", text="Body.")]),
        (".. glossary::\n   :sorted:\n\n   one\n   two\n      Both.\n\n   three\n      It.",
         [Fields(headings=A, pairs=(("one, two", "Both."), ("three", "It.")))]),
        (".. productionlist:: g\n   a: b\n    : c\n   d: e", [code("a: b\n : c\nd: e")]),
        (".. group-tab:: Windows\n\n   Body.\n\n.. code-tab:: Python\n\n   x y",
         [prose("Windows"), prose("Body."), code("x y", "python")]),
        (".. example::\n\n   import x\n   x.go()\n\n.. run::\n\n   Words here.",
         [code("import x\nx.go()", "python"), prose("Words here.")]),
        (".. only:: latex or man\n\n   Print.\n\n.. only:: not html\n\n   Print.\n\n.. only:: not latex\n\n   Web.",
         [prose("Web.")]),
        ("+---+\n| a |\n+---+\n| too wide |\n+---+", [code("+---+\n| a |\n+---+\n| too wide |\n+---+")]),
        (".. http:get:: /users/(int:id)\n\n   Body.",
         [code("/users/(int:id)", "", ("A", "/users/(int:id)")), prose("Body.", "A", "/users/(int:id)")]),
        (".. py:property:: p\n   :type: int\n   :value: 3\n\n   Body.",
         [code("p: int = 3", "python", ("A", "p")), prose("Body.", "A", "p")]),
        (".. py:method:: C.go(a)\n   :staticmethod:\n   :final:",
         [code("final static C.go(a)", "python", ("A", "C.go"))]),
        (".. unknown:: file.py\n   :opt: 1\n\n   Body.\n\n   .. code-block:: c\n\n      x",
         [prose("Body."), code("x", "c")]),
        (".. 2to3fixer:: idioms\n\n   Body of :2to3fixer:`x`.",
         [code("idioms", "", ("A", "idioms")), prose("Body of `x`.", "A", "idioms")]),
        (".. autoclass:: m.C\n   :members:\n\n   Body::\n\n      x",
         [code("class m.C", "python", ("A", "m.C")), prose("Body:", "A", "m.C"), code("x", "", ("A", "m.C"))]),
        (".. tab:: Some words\n\n   Body.", [prose("Some words"), prose("Body.")]),
        (".. only:: html and not epub\n\n   Body.", [prose("Body.")]),
        (".. toctree::\n   :maxdepth: 2\n\n   a\n   b\n\n.. index:: x\n\n.. todo:: Mend.\n\nBody.", [prose("Body.")]),
        (":func:`~a.b.run` :meth:`go` :class:`!X` :c:func:`Py_X` :doc:`the page <x>` :weird:`text` :file:`a/b`",
         [prose("`run()` `go()` `X` `Py_X()` the page text `a/b`")]),
        ("See :ref:`lab`, :ref:`this <lab>`, :ref:`none`.\n\n.. _lab:\n\nB b\n---\n\nc",
         [prose("See B b, this, none."), prose("c", "A", "B b")]),
        ("Bad `link`_ and |sub| and `other <x_>`_.", [prose("Bad link and |sub| and other.")]),
        (":orphan:\n:Author: me\n\nBody.", [prose("Body.")]),
        (".. option:: --fast, -f\n\n   Go.",
         [code("--fast, -f", "", ("A", "--fast, -f")), prose("Go.", "A", "--fast, -f")]),
        (".. c:function:: int *PyX_Y(int a)\n\n   Go.",
         [code("int *PyX_Y(int a)", "c", ("A", "PyX_Y")), prose("Go.", "A", "PyX_Y")]),
        (".. class:: fancy\n\nBody.", [prose("Body.")]),
        ("See [1]_ and [CIT]_.\n\n.. [1] One.\n\n   More.\n.. [CIT] Two.",
         [prose("See [1] and [CIT]."), Fields(headings=A, pairs=(("[1]", "One.\nMore."),)),
          Fields(headings=A, pairs=(("[CIT]", "Two."),))]),
    ],
)  # fmt: skip
def test_rst_is_the_same_typed_blocks_as_html(text, blocks):
    assert read(text) == blocks


def test_a_module_s_objects_are_signatures_under_their_full_names():
    text = """
A
=

.. module:: m.n
   :synopsis: x

.. function:: run(coro, *, debug=None)
              run()

   Run it.

   :param coro: the thing
   :type coro: coroutine
   :param bool debug: mode
   :returns: it
   :raises ValueError: when bad

.. class:: C(a)

   .. method:: go(b)
      :async:

      Goes.

.. exception:: E
"""
    found = rst.read(text.encode(), "a")
    assert found.module == "m.n"
    run, go = ("A", "m.n.run"), ("A", "m.n.C", "m.n.C.go")
    assert list(found.blocks) == [
        code("m.n.run(coro, *, debug=None)\nm.n.run()", "python", run),
        prose("Run it.", *run),
        Fields(
            headings=run,
            pairs=(
                ("Parameters", "- coro (coroutine) – the thing\n- debug (bool) – mode"),
                ("Raises", "- ValueError – when bad"),
                ("Returns", "it"),
            ),
        ),
        code("class m.n.C(a)", "python", ("A", "m.n.C")),
        code("async go(b)", "python", go),
        prose("Goes.", *go),
        code("exception m.n.E", "python", ("A", "m.n.E")),
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (".. module:: m\n\n.. class:: C\n\n   .. method:: C.go()", "m.C.go"),
        (".. module:: m\n\n.. class:: C\n\n   .. attribute:: m.C.x", "m.C.x"),
        (".. module:: m\n\n.. function:: m.go()", "m.go"),
        (".. currentmodule:: m.n\n\n.. method:: C.go(a)", "m.n.C.go"),
        (".. py:function:: go()\n   :module: k", "k.go"),
        (".. py:decorator:: mark(x)", "mark"),
        (".. cpp:function:: std::vector<int> &get(int i)", "get"),
        (".. c:type:: Py_ssize_t", "Py_ssize_t"),
        (".. c:macro:: PY_MAX(a, b)", "PY_MAX"),
        (".. js:function:: go(a)", "go(a)"),
        (".. envvar:: HOME <dir>", "HOME"),
    ],
)
def test_a_signature_stands_under_the_name_of_its_object(text, name):
    found = [block for block in read(f"{text}\n\nEnd.") if block.kind == "code"]
    assert found[-1].headings[-1] == name


@pytest.mark.parametrize(
    "text",
    [
        ".. include:: {}",
        ".. literalinclude:: {}",
        ".. raw:: html\n   :file: {}",
        ".. csv-table:: x\n   :file: {}",
        ".. code-block:: c\n   :file: {}\n\n   x",
        ".. image:: {}\n   :loading: embed",
        ".. figure:: {}\n   :loading: embed\n\n   Cap",
        ".. |x| image:: {}\n\nWith |x|.",
        ".. raw:: html\n\n   <pre>SECRET</pre>",
        ".. raw:: html\n   :url: file://{}",
    ],
)
def test_no_file_is_read_and_nothing_printed(tmp_path, capfd, monkeypatch, text):
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    (tmp_path / "docutils.conf").write_text("[general]\nfile_insertion_enabled: yes\nraw_enabled: yes\n")
    monkeypatch.chdir(tmp_path)
    found = read(f"Body.\n\n{text.format(secret)}\n\nEnd.")
    assert (found[0], found[-1]) == (prose("Body."), prose("End."))
    assert "SECRET" not in str(found)
    assert capfd.readouterr() == ("", "")


def test_what_one_file_defines_is_unknown_in_the_next():
    first = read(".. role:: red\n.. default-role:: red\n\nSome :red:`x` `y`.\n\n.. mine::\n\n   Body.")
    assert first[0].text == "Some x y."
    from docutils.parsers.rst import directives, roles

    assert "mine" not in directives._directives
    assert "red" not in roles._roles
    assert read("Some `y`.")[0].text == "Some y."


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no text"),
        (b":a" * 50_000, "a word of more than 5,000 letters"),
        (b".. automodule:: x\n   :members:\n", "no text but what autodoc takes from the program"),
        ("Größe".encode("latin-1"), "its bytes are not utf-8"),
        (b"* " * 2000 + b"x", "nested too deeply|no text"),
    ],
)
def test_what_cannot_be_read_is_a_reason(data, why, tmp_path):
    from tune.data.sources import folder

    path = tmp_path / "a.rst"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=why):
        folder.read(path)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab .:`*_|<>~!=-\n\\{}[]+", max_size=120))
def test_no_text_is_a_traceback(text):
    with contextlib.suppress(ValueError):
        assert rst.read(text.encode(), "a").blocks


def test_lists_and_line_blocks():
    assert read("1. one\n2. two\n\n   - in\n\n| a\n| b") == [
        List(headings=A, items=(Item(0, "1.", "one"), Item(0, "2.", "two"), Item(1, "-", "in"))),
        prose("a"),
        prose("b"),
    ]
