"""A folder of documents of several formats as a page source, with real files on a real disk."""

import os

import pytest
from papers import docx, paragraph, pdf

from tune import recipe
from tune.data import licence, page
from tune.data.collect import collect
from tune.data.page import Failure, Page
from tune.data.sources import folder, listing
from tune.errors import UserError

HTML = "<body><h1>{0}</h1><p>Words of {0}.</p></body>"


def put(root, name, text="# A\n\nWords."):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def project(tmp_path, text=""):
    (tmp_path / "recipe.toml").write_text(f'[collect]\nsource = "folder"\nfolder = "docs"\n{text}')
    return recipe.read(tmp_path / "recipe.toml")


def ids(root):
    return [found.id.removeprefix("folder:") for found in folder.pages(root)]


def test_documents_of_all_formats_are_pages_in_the_order_of_their_names(tmp_path):
    put(tmp_path, "a.html", HTML.format("a"))
    put(tmp_path, "b.HTM", HTML.format("b"))
    put(tmp_path, "c.xhtml", f'<?xml version="1.0"?><html>{HTML.format("c")}</html>')
    put(tmp_path, "d.md")
    put(tmp_path, "e.markdown")
    put(tmp_path, "f.mdx", "import X from 'x'\n\n# A\n\nWords.")
    put(tmp_path, "g/h.rst", "A\n=\n\nWords.")
    put(tmp_path, "i.pdf", pdf([(72, 100, "body", 10, "Words.")]))
    put(tmp_path, "j.docx", docx(paragraph("Words.")))
    for name in ("x.css", "x.js", "x.json", "x.png", "x"):
        put(tmp_path, name, "x")
    found = list(folder.pages(tmp_path))
    names = ["a.html", "b.HTM", "c.xhtml", "d.md", "e.markdown", "f.mdx", "g/h.rst", "i.pdf", "j.docx"]
    assert [one.id for one in found] == [f"folder:{name}" for name in names]
    assert all(isinstance(one, Page) for one in found)
    assert {one.source for one in found} == {"folder"}
    assert [one.module for one in found[5:8]] == ["top", "g", "top"]
    assert {one.blocks[-1].text for one in found} == {"Words of a.", "Words of b.", "Words of c.", "Words."}


def test_what_is_hidden_or_not_documentation_is_left_out(tmp_path):
    for name in (".a.md", ".git/a.md", "node_modules/x/README.md", "x/_static/a.html", "_modules/a.html", "y.md"):
        put(tmp_path, name)
    assert ids(tmp_path) == ["y.md"]


def test_sphinx_s_listings_are_no_pages_and_pages_of_their_names_are(tmp_path):
    for name in ("built/genindex.html", "built/search.html", "built/py-modindex.html", "built/a.html", "search.html"):
        put(tmp_path, name, HTML.format("a"))
    assert ids(tmp_path) == ["built/a.html", "search.html"]


def test_sphinx_s_sources_are_read_where_nothing_was_built_of_them(tmp_path):
    put(tmp_path, "built.html", HTML.format("a"))
    put(tmp_path, "index/index.html", HTML.format("a"))
    rst = "A\n=\n\nWords."
    for name in (
        "built.rst.txt",
        "index.rst.txt",
        "alone.rst.txt",
        "in/v1.2.txt",
        "notes.md.txt",
        "x.json.txt",
        "n.ipynb.txt",
    ):
        put(tmp_path, f"_sources/{name}", "# A\n\nWords." if ".md" in name else rst)
    put(tmp_path, "requirements.txt")
    expected = ["_sources/alone.rst.txt", "_sources/in/v1.2.txt", "_sources/notes.md.txt"]
    assert [name for name in ids(tmp_path) if "_sources" in name] == [*expected, "_sources/x.json.txt"]
    assert "in/v1.2.txt" in ids(tmp_path / "_sources")


def test_documents_that_are_not_read_are_told_by_number_and_suffix(tmp_path):
    for name in ("a.adoc", "b.adoc", "c.ipynb", "d.md.gz", "e.TXT", "f.css", "g.md"):
        put(tmp_path, name)
    said = []
    list(folder.pages(tmp_path, report=said.append))
    assert said == ["not read: 2 .adoc, 1 .ipynb, 1 .md.gz, 1 .txt"]
    (tmp_path / "g.md").unlink()
    with pytest.raises(UserError, match="holds no HTML, Markdown") as e:
        list(folder.pages(tmp_path))
    assert "2 .adoc" in e.value.why


def test_links_that_leave_the_folder_are_not_followed_and_told(tmp_path):
    put(tmp_path, "secret.md", "# S\n\nSECRET")
    put(tmp_path, "outside/o.md")
    docs = tmp_path / "docs"
    put(docs, "a.md")
    (docs / "link.md").symlink_to(tmp_path / "secret.md")
    (docs / "up").symlink_to(tmp_path)
    (docs / "other").symlink_to(tmp_path / "outside")
    (docs / "inside.md").symlink_to("a.md")
    (docs / "round").symlink_to(docs)
    (docs / "broken.md").symlink_to("nowhere.md")
    os.mkfifo(docs / "pipe.md")
    said = []
    found = list(folder.pages(docs, report=said.append))
    assert [one.id for one in found] == ["folder:a.md", "folder:inside.md"]
    assert said == ["not followed: 1 link to documents outside the folder"]
    (tmp_path / "link").symlink_to(docs)
    assert ids(tmp_path / "link") == ["a.md", "inside.md"]


def test_files_that_cannot_be_read_are_failures_of_theirs_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "LARGEST", 1000)
    put(tmp_path, "a.md", "x" * 1001)
    put(tmp_path, "b.pdf", b"%PDF-1.4 broken")
    put(tmp_path, "c.docx", b"PK broken")
    put(tmp_path, "d.rst", "Größe".encode("latin-1"))
    put(tmp_path, "e.md", "")
    put(tmp_path, "f.md")
    found = {one.id: one for one in folder.pages(tmp_path)}
    reasons = {name: one.reason for name, one in found.items() if isinstance(one, Failure)}
    assert list(reasons) == [f"folder:{name}" for name in ("a.md", "b.pdf", "c.docx", "d.rst", "e.md")]
    assert reasons["folder:a.md"] == "1,001 bytes, more than 1,000"
    assert reasons["folder:d.rst"].startswith("its bytes are not utf-8")
    assert not any("\n" in reason for reason in reasons.values())


def test_whatever_a_reader_raises_is_a_failure_of_that_page(tmp_path, monkeypatch):
    monkeypatch.setitem(folder._READERS, ".md", int)
    put(tmp_path, "a.md")
    (failure,) = folder.pages(tmp_path)
    assert failure.reason.startswith("broken, or beyond its reader: TypeError: int() takes at most 2 arguments")


def test_a_file_name_that_is_not_utf_8_is_read_and_can_be_written(tmp_path):
    path = os.fsencode(tmp_path) + b"/docs/gr\xf6\xdfe.md"
    put(tmp_path, "docs/a.md")
    with open(path, "wb") as file:  # noqa: PTH123 - a name in bytes
        file.write(b"Words.")
    made = collect(project(tmp_path))
    pages = page.read(tmp_path / "work" / "pages" / "pages.jsonl")
    assert [one.id for one in pages] == ["folder:a.md", "folder:gr\\xf6\\xdfe.md"]
    assert collect(project(tmp_path)).digest == made.digest


def test_every_file_that_is_read_is_in_the_digest(tmp_path):
    docs = tmp_path / "docs"
    put(docs, "a.md")
    put(docs, "b.rst", "A\n=\n\nWords.")
    put(docs, "c.adoc")
    r = project(tmp_path)
    made = [collect(r).digest]
    put(docs, "c.adoc", "Others")
    put(docs, "x.css", "x")
    assert collect(r).digest == made[0]
    for name, text in (("a.md", "# A\n\nOthers."), ("b.rst", "A\n=\n\nOthers."), ("d.mdx", "# D\n\nWords."),
                       ("LICENSE", "MIT License")):  # fmt: skip
        put(docs, name, text)
        made.append(collect(r).digest)
    assert len(set(made)) == 5


def test_the_licence_beside_the_pages_is_theirs_when_they_state_none(tmp_path):
    put(tmp_path, "LICENSE.md", "# MIT License\n\nPermission is hereby granted, free of charge, to any person")
    put(tmp_path, "a.md")
    put(
        tmp_path, "b.html", HTML.format("b").replace("</body>", "<footer>licensed under the X Licence.</footer></body>")
    )
    put(tmp_path, "sub/license.md")
    found = {one.id: one.licence for one in folder.pages(tmp_path)}
    assert found == {"folder:a.md": "MIT", "folder:b.html": "X Licence", "folder:sub/license.md": "MIT"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("              Apache License\n              Version 2.0, January 2004", "Apache-2.0"),
        ("GNU GENERAL PUBLIC LICENSE\n                       Version 3, 29 June 2007", "GPL-3.0"),
        ("GNU LESSER GENERAL PUBLIC LICENSE\nVersion 3\n\nGNU GENERAL PUBLIC LICENSE Version 3", "LGPL-3.0"),
        ("Copyright X\n\nRedistribution and use in source and binary forms\n\n3. Neither the name", "BSD-3-Clause"),
        ("Copyright X\n\nRedistribution and use in source and binary forms\n\n1. A\n2. B", "BSD-2-Clause"),
        ("Creative Commons Attribution-ShareAlike 4.0 International", "CC-BY-SA-4.0"),
        ("Attribution 4.0 International", "CC-BY-4.0"),
        ("All rights reserved.", "unknown"),
        ("", "unknown"),
    ],
)  # fmt: skip
def test_a_licence_is_known_by_its_first_lines(text, name):
    assert licence.spdx(text) == name


def test_most_files_failing_is_an_error_with_the_reasons_unless_the_recipe_allows_it(tmp_path):
    docs = tmp_path / "docs"
    for name in "abc":
        put(docs, f"{name}.pdf", pdf([], picture=True))
    put(docs, "d.md", "")
    for name in "efg":
        put(docs, f"{name}.md")
    for name in "hijk":  # no loss: what they lead to is read
        put(docs, f"{name}.html", '<meta http-equiv=refresh content="0; url=e.html"><body>Moved.</body>')
    r = project(tmp_path)
    with pytest.raises(UserError, match=r"4 of 7 files in collect\.folder gave no page") as e:
        collect(r)
    assert e.value.why.splitlines()[0] == "3 files: no text: scanned? run OCR first"
    assert "1 file: no text" in e.value.why
    assert "collect.allow_failures = true" in e.value.fix
    assert not (r.work / "pages").exists()
    put(docs, "l.md")
    made = collect(r)
    assert (made.figures["pages"], made.figures["failures"]) == (4, 8)
    (docs / "l.md").unlink()
    assert collect(project(tmp_path, "allow_failures = true\n")).figures["pages"] == 3


def menu(name, more=""):
    items = "".join(f"<li><a href={n}.html>Page {n}</a></li>" for n in range(9))
    return f"<body><ul>{items}</ul><h1>{name}</h1>{more}<p>Own of {name}.</p><p>Built 2026-11-{name}.</p></body>"


def test_what_repeats_at_the_edges_of_pages_is_taken_out_and_told(tmp_path):
    for i in range(10, 20):
        table = "<table><tr><td>Name</td><td>Use</td></tr></table>"
        put(tmp_path, f"{i}.html", menu(i, f"<p>Opens {i}.</p>{table}<pre>go</pre>"))
    said = []
    found = list(folder.pages(tmp_path, report=said.append))
    assert [block.kind for block in found[0].blocks] == ["prose", "table", "code", "prose"]
    assert found[0].blocks[-1].text == "Own of 10."
    assert said == ["left out: 20 blocks at the edges of pages that stand on many of them, such as menus"]


def test_a_few_pages_or_pages_that_say_nothing_else_stay_whole(tmp_path):
    for i in range(4):
        put(tmp_path, f"few/{i}.html", menu(i))
    assert all(len(one.blocks) == 3 for one in folder.pages(tmp_path / "few"))
    for i in range(6):
        put(tmp_path, f"same/{i}.md", "# A\n\nThe same everywhere.")
    assert [len(one.blocks) for one in folder.pages(tmp_path / "same")] == [1] * 6


def test_the_source_sphinx_reads_the_same_under_its_old_ids(tmp_path):
    put(tmp_path, "a.md")
    assert [one.id for one in folder.pages(tmp_path, "sphinx")] == ["sphinx:a.md"]


@pytest.mark.parametrize("name", ["_sources/a.rst.txt", "x/_sources/b/c.txt", "a.md", "a.tar.md", "_sources/v1.2.txt"])
def test_a_name_s_stem_and_kind(name):
    assert listing.stem(name) == name.removesuffix(".txt").removesuffix(".rst").removesuffix(".md")
    assert listing.kind(name) in {".rst", ".md"}
