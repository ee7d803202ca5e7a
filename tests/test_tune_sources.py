import sys
from pathlib import Path

import pytest

from tune.data.block import Admonition, Code, Item, List, Prose, Table, sections
from tune.data.page import Failure
from tune.data.sources import folder, stdlib
from tune.errors import UserError

DATA = Path(__file__).parent / "data" / "sphinx"


def test_stdlib_gives_docstrings_signatures_and_examples():
    pages = {p.id: p for p in stdlib.pages(["heapq", "fractions"], topics=False)}
    assert set(pages) == {"stdlib:heapq", "stdlib:fractions", "stdlib:fractions.Fraction"}
    by_title = {s.title: s for s in sections(pages["stdlib:heapq"].blocks)}
    assert by_title["heapq.merge"].code[0] == "heapq.merge(*iterables, key=None, reverse=False)"
    assert ">>> list(merge(['dog', 'horse'], ['cat', 'fish', 'kangaroo'], key=len))" in by_title["heapq.merge"].code[2]
    assert "`nlargest`" in by_title["Names in heapq"].blocks[0].text
    assert pages["stdlib:heapq"].licence == "PSF-2.0"


def test_stdlib_takes_nothing_that_another_module_defines():
    """secrets re-exports random's choice; collections has abc; neither may come in through the neighbour."""
    pages = stdlib.pages(["secrets", "collections", "os.path"], topics=False)
    titles = {heading for page in pages for block in page.blocks for heading in block.headings}
    assert "secrets.token_hex" in titles
    assert "os.path.exists" in titles  # defined in genericpath, which is os.path's own
    assert "secrets.choice" not in titles
    assert not any(t.startswith("collections.abc") for t in titles)
    assert not any(p.module not in {"secrets"} for p in stdlib.pages(["secrets"], topics=False))


def test_stdlib_topics_are_pages_with_headings():
    pages = {p.id: p for p in stdlib.pages([], topics=True)}
    assert len(pages) > 70
    assert {p.module for p in pages.values()} == {"topics"}
    parts = sections(pages["topics:compound"].blocks)
    assert [s.title for s in parts][:2] == ["Compound statements", 'The "if" statement']
    assert parts[1].headings[0] == "Compound statements"
    assert parts[1].code[0].startswith("if_stmt ::= ")


def test_stdlib_names_every_unknown_module_before_the_first_page():
    with pytest.raises(UserError) as e:
        next(stdlib.pages(["heapq", "heapqq", "numpy", "antigravity", "this"], topics=False))
    assert "heapqq: not a standard-library module that can be documented; did you mean heapq?" in e.value.why
    assert all(name in e.value.why for name in ("numpy", "antigravity", "this"))


def test_stdlib_pages_hold_no_addresses():
    text = "\n".join(p.text for p in stdlib.pages(["logging", "unittest", "threading", "enum"], topics=False))
    assert len(text) > 50_000
    assert " at 0x" not in text


def test_sphinx_keeps_headings_signatures_and_code_and_drops_navigation():
    found = {p.id: p for p in folder.pages(DATA, "sphinx")}
    assert set(found) == {f"sphinx:{n}.html" for n in ("blank", "tutorial", "library/shelf", "library/shelf-tips")}
    page = found["sphinx:library/shelf.html"]
    top, put, notes = (page.title,), (page.title, "shelf.put"), (page.title, "Notes on wood")
    assert page.blocks == (
        Prose(headings=top, text="This module puts things on shelves, and takes them down again."),
        Admonition(headings=top, title="Note", text="Shelves are short."),
        Code(headings=put, language="python", text="shelf.put(thing, *, level=3)"),
        Prose(headings=put, text="Put thing on the shelf at level."),
        Code(headings=put, language="python", text=">>> sorted([3, 1])\n[1, 3]\n>>> 2 + 2\n5"),
        List(headings=notes, items=(Item(0, "-", "Oak is heavy."), Item(0, "-", "Pine is `light`."))),
        Table(headings=notes, rows=(("Wood", "Weight"), ("oak", "700"))),
        Code(headings=notes, language="shell", text="# a comment, not a heading\nshelf --oak"),
    )
    assert (page.title, page.module, page.licence) == (
        "shelf — Things on shelves",
        "shelf",
        "Example Licence Version 2",
    )


def test_sphinx_modules_group_siblings_and_are_not_taken_from_headings():
    found = {p.id: p for p in folder.pages(DATA, "sphinx")}
    assert found["sphinx:library/shelf-tips.html"].module == "shelf"
    assert found["sphinx:tutorial.html"].module == "top"  # id="module-objects" there is the heading "Module objects"
    assert isinstance(found["sphinx:blank.html"], Failure)


def test_a_page_nested_too_deeply_is_a_failure_of_that_page(tmp_path):
    (tmp_path / "deep.html").write_text("<body>" + "<div>" * 5000 + "Text." + "</div>" * 5000 + "</body>")
    (tmp_path / "plain.html").write_text("<body><h1>A</h1><p>Words.</p></body>")
    failure, page = folder.pages(tmp_path, "sphinx")
    assert failure == Failure(id="sphinx:deep.html", reason="nested too deeply")
    assert page.id == "sphinx:plain.html"


def test_sphinx_refuses_a_folder_without_pages(tmp_path):
    with pytest.raises(UserError, match="holds no HTML"):
        list(folder.pages(tmp_path))
    with pytest.raises(UserError, match="there is no folder"):
        list(folder.pages(tmp_path / "nowhere"))


def test_the_path_of_this_interpreter_is_in_no_page():
    found = list(stdlib.pages(["platform"], topics=False))
    assert "platform.architecture" in found[0].text
    assert not [p.id for p in found if sys.executable in p.text]
