import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune.data import page
from tune.data.block import Admonition, Code, Fields, Item, List, Prose, Table
from tune.data.page import Failure, Page
from tune.errors import UserError


def made(**changes):
    blocks = (Prose(headings=("A",), text="x"),)
    fields = {"id": "a", "title": "A", "module": "m", "blocks": blocks, "source": "s", "licence": "l"}
    return Page(**{**fields, **changes})


def every(text):
    """A block of each kind that says `text`."""
    path = {"headings": ("A", text)}
    return (
        Prose(**path, text=text),
        Code(**path, language="python", text=text),
        Table(**path, rows=((text, ""), ("", text))),
        Fields(**path, pairs=((text, text),)),
        List(**path, items=(Item(0, "1.", text), Item(1, "-", text))),
        Admonition(**path, title="Note", text=text),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=40).filter(lambda t: t.strip()), max_size=5))
def test_pages_come_back_as_they_were_written(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("pages") / "pages.jsonl"
    pages = [made(id=str(i), blocks=every(text)) for i, text in enumerate(texts)]
    page.write(path, pages)
    assert page.read(path) == pages
    assert pages[0:1] == [] or texts[0] in pages[0].text


def test_a_line_that_is_no_page_is_named(tmp_path):
    path = tmp_path / "pages.jsonl"
    path.write_text(made().model_dump_json() + "\n" + '{"id": "b"}\n')
    with pytest.raises(UserError, match=r"pages\.jsonl:2 is not a page"):
        page.read(path)


def test_pages_of_another_schema_version_are_to_be_collected_again(tmp_path):
    path = tmp_path / "pages.jsonl"
    old = {"id": "a", "title": "A", "module": "m", "text": "# A\n\nx", "source": "s", "licence": "l", "url": ""}
    for row, version in ((old, 1), ({**made().model_dump(mode="json"), "schema_version": 3}, 3)):
        path.write_text(json.dumps(row) + "\n")
        with pytest.raises(UserError, match=rf"another version\n  why: its pages have schema version {version}") as e:
            page.read(path)
        assert e.value.fix == "tune collect"


def test_a_page_needs_a_block():
    with pytest.raises(ValueError, match="blocks"):
        made(blocks=())
    with pytest.raises(ValueError, match="reason"):
        Failure(id="x", reason="")


def test_held_out_covers_the_module_and_what_lies_in_it_and_no_namesake():
    held = ["ast", "xml"]
    assert made(module="ast").held_out(held) == ("ast", "module")
    assert made(module="xml.etree").held_out(held) == ("xml", "module")
    assert made(module="astor").held_out(held) is None


@pytest.mark.parametrize(
    ("heading", "code"),
    [("pandas.DataFrame.T", ""), ("pandas.read_csv()", ""), ("pandas.eval(expr, ...)", ""),
     ("read_csv", "pandas.read_csv(path, sep=',')")],
)  # fmt: skip
def test_a_page_is_held_out_by_what_it_documents_though_its_folder_groups_it_elsewhere(heading, code):
    blocks = (Prose(headings=("API", heading), text="Words."),)
    blocks = (Code(headings=("API", heading), language="python", text=code), *blocks) if code else blocks
    assert made(module="reference.api", blocks=blocks).held_out(["numpy", "pandas"]) == ("pandas", "objects")
    assert made(module="reference.api", blocks=blocks).held_out(["pandas.io", "read_csv", "panda"]) is None


def test_a_page_that_uses_a_held_out_module_or_speaks_of_it_is_free():
    code = Code(headings=("pandas", "Reading files"), text="pandas.read_csv(path)")
    prose = Prose(headings=("time", "select a copy"), text="As `pandas.read_csv` does; see pandas.read_csv.")
    assert made(module="guide", blocks=(code, prose)).held_out(["pandas", "time", "copy"]) is None
