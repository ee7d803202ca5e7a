"""DOCX -> Document, through mammoth to HTML and then the reader of all HTML.

In: a file's bytes. Out: the Document: headings, lists and tables by Word's own styles, paragraphs in a style or a font
of code as code. Pictures are left out. What cannot be read is a ValueError: no DOCX, encrypted, or a zip bomb. Knows
nothing about folders.
"""

import io
import re
import zipfile
from html import unescape
from typing import TYPE_CHECKING, Any

from tune.data.formats.text import document
from tune.data.html import Document

if TYPE_CHECKING:
    from mammoth.documents import Paragraph

UNPACKED = 100_000_000  # bytes of XML: beyond this it is a bomb, not a document
_OLE = b"\xd0\xcf\x11\xe0"  # Word's older container, which holds encrypted DOCX files too
_STYLE = re.compile(r'<w:style\b[^>]*w:type="(paragraph|character)"[^>]*>.*?<w:name\b[^>]*w:val="([^"]*)"', re.DOTALL)
_CODE_STYLE = re.compile(r"code|source|preformatted|listing|verbatim|plain text|terminal|console", re.IGNORECASE)
_CODE_FONT = re.compile(r"courier|consol|mono|menlo|monaco|lucida console|source code|fixedsys", re.IGNORECASE)
_OURS = "Code of a font"  # the style given to a paragraph whose letters are all in a font of code


def read(data: bytes, name: str = "") -> Document:
    """The document in a DOCX file; `name` is its title when it has none. Raises ValueError when there is none."""
    import mammoth

    styles = _styles(data)
    done = mammoth.convert_to_html(
        io.BytesIO(data),
        style_map="\n".join(_mapped(styles)),
        convert_image=mammoth.images.img_element(lambda _: {}),
        transform_document=_by_fonts,
        ignore_empty_paragraphs=False,
        external_file_access=False,
    )
    return document(re.sub(r"<img[^>]*>", "", done.value), name)


def _styles(data: bytes) -> list[tuple[str, str]]:
    """(kind, name) of the document's styles. Raises ValueError when it is no DOCX that can be unpacked."""
    if data.startswith(_OLE):
        raise ValueError("encrypted, or an old .doc: save it as .docx without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            parts = {part.filename: part for part in packed.infolist()}
            if sum(part.file_size for part in parts.values() if part.filename.endswith((".xml", ".rels"))) > UNPACKED:
                raise ValueError(f"unpacks to more than {UNPACKED:,} bytes: a zip bomb")
            if "word/document.xml" not in parts:
                raise ValueError("no DOCX: there is no word/document.xml in it")
            found = packed.read("word/styles.xml").decode("utf-8", "replace") if "word/styles.xml" in parts else ""
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as e:
        raise ValueError(f"no DOCX, or a broken one: {e}") from None
    return [(kind, unescape(name)) for kind, name in _STYLE.findall(found)]


def _mapped(styles: list[tuple[str, str]]) -> list[str]:
    """mammoth's style map: what is code, and Word's own title."""
    out = ["p[style-name='Title'] => h1:fresh", "p[style-name='Subtitle'] => p:fresh"]
    for kind, name in [*styles, ("paragraph", _OURS), ("character", _OURS)]:
        if _CODE_STYLE.search(name):
            named = name.replace("\\", "\\\\").replace("'", "\\'")
            out.append(
                f"p[style-name='{named}'] => pre:separator('\\n')"
                if kind == "paragraph"
                else f"r[style-name='{named}'] => code"
            )
    return out


def _by_fonts(whole: Any) -> Any:
    """The document, with a style of code for the paragraphs and the words that are in a font of code."""
    from mammoth import transforms

    def word(run: Any) -> Any:
        return run.copy(style_id=_OURS, style_name=_OURS) if _CODE_FONT.search(run.font or "") else run

    return transforms.run(word)(transforms.paragraph(_by_font)(whole))


def _by_font(paragraph: "Paragraph") -> Any:
    """The paragraph, in a style of code when all its text is in a font of code and it is no heading or item."""
    from mammoth import documents, transforms

    runs = [run for run in transforms.get_descendants_of_type(paragraph, documents.Run) if _text(run).strip()]
    plain = not paragraph.numbering and not re.match(r"heading|title", paragraph.style_name or "", re.IGNORECASE)
    if runs and plain and all(_CODE_FONT.search(run.font or "") for run in runs):
        return paragraph.copy(style_id="CodeOfAFont", style_name=_OURS)
    return paragraph


def _text(node: Any) -> str:
    return getattr(node, "value", "") or "".join(_text(child) for child in getattr(node, "children", ()))
