"""Pages about a module that does not exist, for tests of what pages can be asked."""

from tune.data.block import Code, Prose
from tune.data.page import Page


def page(*blocks, **changes):
    fields = {"id": "sphinx:shelf", "title": "shelf", "module": "shelf", "source": "sphinx", "licence": "unknown"}
    return Page(**{**fields, "blocks": tuple(blocks), **changes})


def prose(text, *headings):
    return Prose(headings=("shelf", *headings), text=text)


def code(text, *headings):
    return Code(headings=("shelf", *headings), language="python", text=text)
