"""DOCX: files made by hand in Word's styles, and the blocks of them."""

import io
import zipfile

import pytest
from papers import docx, paragraph, table

from tune.data.block import Code, Prose, Table
from tune.data.formats.docx import read

A = ("Guide",)
STYLES = (("Title", "Title"), ("H2", "heading 2"), ("Src", "Source Code"), ("Pre", "HTML Preformatted"), ("B", "Body"))


def prose(text, *headings):
    return Prose(headings=headings or A, text=text)


def test_styles_are_headings_code_and_prose_and_tables_stay():
    data = docx(
        paragraph("Guide", "Title"),
        paragraph("First <words>.", "B"),
        paragraph("Install", "H2"),
        paragraph("def f(a):", "Src"),
        paragraph("    return a", "Src"),
        paragraph("After.", "B"),
        paragraph("$ make", "Pre"),
        table(("Name", "What"), ("a", "first")),
        styles=STYLES,
    )
    install = ("Guide", "Install")
    assert list(read(data, "a").blocks) == [
        prose("First <words>."),
        Code(headings=install, text="def f(a):\n    return a"),
        prose("After.", *install),
        Code(headings=install, text="$ make"),
        Table(headings=install, rows=(("Name", "What"), ("a", "first"))),
    ]


def test_a_paragraph_in_a_font_of_code_is_code():
    mixed = paragraph("Say ").replace("</w:p>", paragraph("x()", font="Consolas").removeprefix("<w:p>"))
    data = docx(paragraph("Words."), paragraph("x = 1", font="Courier New"), paragraph("y = 2", font="Consolas"),
                mixed)  # fmt: skip
    found = read(data, "the-file")
    assert found.title == "the file"
    top = ("the file",)
    assert list(found.blocks) == [
        prose("Words.", *top),
        Code(headings=top, text="x = 1\ny = 2"),
        prose("Say `x()`", *top),
    ]


def test_a_style_s_name_is_no_part_of_the_program_that_maps_it():
    data = docx(paragraph("x", "Odd"), styles=[("Odd", "Code 'x'] => h1 \\")])
    assert list(read(data, "a").blocks) == [Code(headings=("a",), text="x")]


def packed(*files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in files:
            made.writestr(name, text)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no zip", "no DOCX, or a broken one"),
        (docx(paragraph("x"))[:300], "no DOCX, or a broken one"),
        (b"\xd0\xcf\x11\xe0 an old one", "encrypted, or an old .doc"),
        (packed(("a.txt", "x")), "no word/document.xml"),
        (packed(("word/document.xml", b" " * 100_000_001)), "a zip bomb"),
        (docx(), "no text"),
    ],
)
def test_what_cannot_be_read_is_a_reason_in_one_line(data, why):
    with pytest.raises(ValueError, match=why) as e:
        read(data, "a")
    assert "\n" not in str(e.value)


def test_no_file_outside_of_it_is_read(tmp_path):
    """A picture may be a link to a file: nothing of it is opened."""
    (tmp_path / "secret.txt").write_text("SECRET")
    drawn = (
        '<w:p xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" '
        'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
        'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"><w:r><w:drawing><wp:inline>'
        '<a:graphic><a:graphicData><pic:pic xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture">'
        '<pic:blipFill><a:blip r:link="r9"/></pic:blipFill></pic:pic></a:graphicData></a:graphic></wp:inline>'
        "</w:drawing></w:r></w:p>"
    )
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    data = docx(paragraph("Words."), drawn)
    with zipfile.ZipFile(io.BytesIO(data)) as made:
        files = {name: made.read(name).decode() for name in made.namelist()}
    target = (tmp_path / "secret.txt").as_uri()
    link = f'<Relationship Id="r9" Type="{kind}/image" Target="{target}" TargetMode="External"/>'
    key = "word/_rels/document.xml.rels"
    files[key] = files[key].replace("</Relationships>", f"{link}</Relationships>")
    assert "SECRET" not in str(read(packed(*files.items()), "a"))
