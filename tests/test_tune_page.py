import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune.data import page
from tune.data.page import Failure, Page
from tune.errors import UserError

TEXT = """lost

# One

First.

```python
# not a heading
>>> 1

2
```

## Two `deep`

Second.
"""


def made(**changes):
    fields = {"id": "a", "title": "A", "module": "m", "text": "x", "source": "s", "licence": "l"}
    return Page(**{**fields, **changes})


def test_sections_split_at_headings_and_leave_code_whole():
    one, two = page.sections(TEXT)
    assert (one.title, one.level, two.title, two.level) == ("One", 1, "Two `deep`", 2)
    assert one.code == ["# not a heading\n>>> 1\n\n2"]
    assert page.paragraphs(one.body) == ["First.", "```python\n# not a heading\n>>> 1\n\n2\n```"]
    assert two.body == "Second."


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="#`a \n>\r\u2028<|", max_size=60))
def test_fenced_code_and_plain_text_never_become_structure(text):
    fenced = page.sections(f"# Title\n\n{page.fenced(text, 'python')}\n\n# Next")
    assert [s.title for s in fenced] == ["Title", "Next"]
    assert fenced[0].code == [text]
    (only,) = page.sections(f"# Title\n{page.plain(text)}")
    assert only.code == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=40).filter(lambda t: t.strip()), max_size=5))
def test_pages_come_back_as_they_were_written(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("pages") / "pages.jsonl"
    pages = [made(id=str(i), text=text) for i, text in enumerate(texts)]
    page.write(path, pages)
    assert page.read(path) == pages


def test_a_line_that_is_no_page_is_named(tmp_path):
    path = tmp_path / "pages.jsonl"
    path.write_text(made().model_dump_json() + "\n" + '{"id": "b"}\n')
    with pytest.raises(UserError, match=r"pages\.jsonl:2 is not a page"):
        page.read(path)


def test_a_page_needs_text():
    with pytest.raises(ValueError, match="text"):
        made(text=" \n")
    with pytest.raises(ValueError, match="reason"):
        Failure(id="x", reason="")


def test_held_out_covers_the_module_and_what_lies_in_it_and_no_namesake():
    held = ["ast", "xml"]
    assert made(module="ast").held_out_by(held) == "ast"
    assert made(module="xml.etree").held_out_by(held) == "xml"
    assert made(module="astor").held_out_by(held) is None
