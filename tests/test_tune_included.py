"""Files that documents include: real folders, what lies in them and what lies outside."""

import os

import pytest

from tune import recipe
from tune.data.block import Admonition, Code, Prose, Table
from tune.data.collect import collect
from tune.data.formats import included
from tune.data.formats.included import Place, selected
from tune.data.sources import folder

PROGRAM = "import os\n\n\nclass C:\n    x = 1\n\n    @dec\n    def go(self):\n        return 1\n\n    y = 2\n"
SAID = "zero\n# begin\none\n  two\n# end\nthree\n"


@pytest.fixture
def docs(tmp_path):
    files = {
        "secret.txt": "SECRET",
        "docs/part.inc": "Before.\n\n.. start-here\n\nPart :foo:`x`.\n\n.. mine:: A b\n\n   Inside.\n",
        "docs/sub/beside.inc": "Beside.\n\n.. include:: deeper.inc\n",
        "docs/sub/deeper.inc": "Deeper.\n",
        "docs/sub/page.txt": "Of sources.\n",
        "docs/x.py": PROGRAM,
        "docs/said.txt": SAID,
        "docs/t.csv": "h,i\n1,2\n",
        "docs/c.md": "Text of *c*.\n",
        "docs/sections.py": "a\n# --8<-- [start:one]\nb\n# --8<-- [start:in]\nc\n# --8<-- [end:one]\nd\n",
        "docs/.env": "SECRET",
        "docs/.hidden/x.inc": "SECRET",
        "docs/latin.inc": b"Gr\xf6\xdfe",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.mkfifo(tmp_path / "docs" / "pipe.inc")
    (tmp_path / "docs" / "link.inc").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "docs" / "up").symlink_to(tmp_path)
    (tmp_path / "docs" / "round.inc").symlink_to("round.inc")
    (tmp_path / "docs" / "large.inc").write_bytes(b"SECRET " * (included.LARGEST // 7 + 1))
    return tmp_path / "docs"


def read(docs, name, text):
    (docs / name).parent.mkdir(parents=True, exist_ok=True)
    (docs / name).write_text(text)
    return folder.read(docs / name, docs).blocks


def said(blocks):
    return [block.text for block in blocks]


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        (".. include:: part.inc\n   :start-after: start-here\n", ["Part x.", "A b", "Inside."]),
        (".. include:: /sub/beside.inc\n", ["Beside.", "Deeper."]),
        (".. include:: sub/page\n", ["Of sources."]),
        ("* .. include:: sub/deeper.inc\n\nAfter.", ["Deeper.", "After."]),
        (".. include:: <isonum.txt>\n\n|copy| us", ["© us"]),
        (".. include:: x.py\n   :literal:\n   :end-line: 1\n", ["import os"]),
        (".. literalinclude:: x.py\n   :pyobject: C.go\n   :dedent:\n   :emphasize-lines: 1\n",
         ["@dec\ndef go(self):\n    return 1"]),
        (".. literalinclude:: x.py\n   :caption: So *it* goes\n   :lines: 1\n", ["So it goes", "import os"]),
    ],
)  # fmt: skip
def test_what_restructuredtext_includes_is_read(docs, text, blocks):
    found = read(docs, "a.rst", text)
    assert said(found) == blocks if found[0].kind != "list" else [i.text for i in found[0].items] == blocks[:1]


def test_code_that_is_included_has_its_language_and_tables_their_rows(docs):
    found = read(docs, "a.rst", ".. literalinclude:: x.py\n   :lines: 1\n\n.. csv-table:: T\n   :file: t.csv\n")
    assert found == (
        Code(headings=("a",), language="python", text="import os"),
        Prose(headings=("a",), text="T"),
        Table(headings=("a",), rows=(("h", "i"), ("1", "2"))),
    )
    found = read(docs, "a.rst", ".. literalinclude:: x.py\n   :lines: 1\n   :language: text\n")
    assert found[0].language == "text"


def test_an_include_stands_in_what_it_is_in(docs):
    found = read(docs, "a.rst", ".. note::\n\n   .. include:: sub/deeper.inc\n")
    assert found == (Admonition(headings=("a",), title="Note", text="Deeper."),)


def test_the_root_is_where_sphinx_is_configured(docs):
    (docs / "sub" / "conf.py").touch()
    assert said(read(docs, "sub/in/a.rst", ".. include:: /deeper.inc\n")) == ["Deeper."]


@pytest.mark.parametrize("name", ["../secret.txt", "up/secret.txt", "link.inc", "/../secret.txt", ".env", "none.inc",
                                  ".hidden/x.inc", "large.inc", "pipe.inc", "round.inc", "latin.inc", "sub", "a" * 300,
                                  "{outside}", "up/docs/.env"])  # fmt: skip
@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".rst", "Begin.\n\n.. include:: {}\n\n.. literalinclude:: {}\n\n.. csv-table::\n   :file: {}\n\nEnd."),
        (".md", 'Begin.\n\n--8<-- "{}"\n\n{{!{}!}}\n\n```{{include}} {}\n```\n\nEnd.'),
        (".md", "Begin.\n\n```{{literalinclude}} {}\n```\n\n```{{eval-rst}}\n.. include:: {}\n{}\n```\n\nEnd."),
    ],
)
def test_what_is_not_there_or_outside_is_left_out_and_the_page_stays(docs, name, suffix, text):
    name = name.format(outside=docs.parent / "secret.txt")
    found = read(docs, f"a{suffix}", text.format(name, name, "" if "eval" in text else name))
    assert said(found) == ["Begin.", "End."]


def test_files_that_include_each_other_end(docs):
    assert said(read(docs, "a.rst", "One.\n\n.. include:: b.inc\n\n.. include:: a.rst\n")) == ["One."]
    (docs / "b.inc").write_text("Two.\n\n.. include:: a.rst\n\n.. include:: c.inc\n")
    (docs / "c.inc").write_text("Three.\n\n.. include:: b.inc\n")
    assert said(read(docs, "a.rst", "One.\n\n.. include:: b.inc\n\n.. include:: c.inc\n")) == [
        "One.",
        "Two.",
        "Three.",
        "Three.",
        "Two.",
    ]
    found = read(docs, "a.md", '# A\n\nWords.\n\n--8<-- "a.md"\n')
    assert set(said(found)) == {"Words."}


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ('--8<-- "c.md"', ["Text of c."]),
        ("{!c.md!}", ["Text of c."]),
        ("```{include} c.md\n```", ["Text of c."]),
        ('```py\n--8<-- "x.py:1:1"\n```', ["import os"]),
        ('```py\n--8<-- "sections.py:one"\n```', ["b\nc"]),
        ("```{literalinclude} x.py\n:pyobject: C.go\n:dedent:\n```", ["@dec\ndef go(self):\n    return 1"]),
        ("```{eval-rst}\n.. include:: sub/deeper.inc\n```", ["Deeper."]),
        ('!!! note\n\n    --8<-- "c.md"', ["Text of c."]),
    ],
)
def test_what_markdown_includes_is_read(docs, text, blocks):
    assert said(read(docs, "a.md", text)) == blocks


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({"lines": "1,3-4, 6-"}, "zero one two|three"),
        ({"lines": "-2,99,x,3-2"}, "zero|# begin"),
        ({"start-after": "begin", "end-before": "end"}, "one|  two"),
        ({"start-at": "begin", "end-at": "end", "lines": "1-5"}, "# begin|one|  two|# end"),
        ({"start-after": "nowhere"}, ""),
        ({"start-line": "1", "end-line": "-2"}, "# begin|one|  two"),
        ({"start-line": "1\x1f", "end-line": "-2"}, "# begin|one|  two"),  # stripped, and no number to int
        ({"lines": "4", "dedent": ""}, "two"),
        ({"lines": "3-4", "dedent": "1"}, "one| two"),
        ({"lines": "3", "prepend": "a", "append": "b"}, "a|one|b"),
        ({"pyobject": "C"}, ""),
    ],
)
def test_the_lines_that_options_choose(options, lines):
    assert selected(SAID, options) == lines.replace("zero one two", "zero|one|  two").replace("|", "\n")


@pytest.mark.parametrize(("name", "last"), [("C", "    y = 2"), ("C.go", "        return 1"), ("C.x", ""), ("D", "")])
def test_a_python_object_is_its_lines(name, last):
    assert selected(PROGRAM, {"pyobject": name}).rpartition("\n")[2] == last


def test_what_is_included_is_in_the_digest(docs, tmp_path):
    (docs / "a.rst").write_text("One.\n\n.. include:: sub/beside.inc\n\n.. csv-table::\n   :file: t.csv\n")
    (docs / "b.md").write_text('Begin.\n\n--8<-- "x.py:1"\n\n--8<-- "../secret.txt"\n')
    names = ["x.py", "sub/beside.inc", "sub/deeper.inc", "t.csv"]
    assert sorted(included.names(docs, ["a.rst", "b.md"])) == sorted(names)
    (tmp_path / "recipe.toml").write_text('[collect]\nsource = "folder"\nfolder = "docs"\n')
    made = [collect(recipe.read(tmp_path / "recipe.toml")).digest]
    for name in names:
        with (docs / name).open("a") as file:
            file.write("\nmore")
        made.append(collect(recipe.read(tmp_path / "recipe.toml")).digest)
    (tmp_path / "secret.txt").write_text("OTHER")
    assert collect(recipe.read(tmp_path / "recipe.toml")).digest == made[-1]
    assert len(set(made)) == 5


def test_a_place_without_a_folder_includes_nothing(docs):
    assert Place(docs / "sub", docs / "a.rst").find("../x.py") is None
    (docs / "a.rst").write_text("Begin.\n\n.. include:: part.inc\n")
    assert said(folder.read(docs / "a.rst").blocks) == ["Begin."]
