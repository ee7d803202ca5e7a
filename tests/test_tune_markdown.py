"""Markdown and MDX: minimal files, each with one thing that gets lost easily, and the blocks of it."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune.data.block import Admonition, Code, Fields, Item, List, Prose, Table
from tune.data.formats import markdown, mdx

A = ("A",)


def prose(text, *headings):
    return Prose(headings=headings or A, text=text)


def code(text, language="", headings=A):
    return Code(headings=headings, language=language, text=text)


def note(title, text):
    return Admonition(headings=A, title=title, text=text)


def listed(*texts):
    return List(headings=A, items=tuple(Item(0, "-", text) for text in texts))


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("Use `a` and\n*b*.\n\n## B {#b}\n\nc", [prose("Use `a` and b."), prose("c", "A", "B")]),
        ("```C++ title=x\nint x;\n```\n\n    plain\n", [code("int x;", "c++"), code("plain")]),
        ("- one\n  ```js {1,3}\n  go();\n  ```\n- two", [listed("one"), code("go();", "js"), listed("two")]),
        ("|a|b|\n|-|-|\n|1|`x\\|y`|", [Table(headings=A, rows=(("a", "b"), ("1", "`x|y`")))]),
        ("Term\n: What it is\n", [Fields(headings=A, pairs=(("Term", "What it is"),))]),
        ("See[^1] it.\n\n[^1]: The foot.", [prose("See it."), List(headings=A, items=(Item(0, "1.", "The foot."),))]),
        ('!!! note "Look"\n    Body.\n\n    ```py\n    x\n    ```', [note("Look", "Body."), code("x", "python")]),
        ("???+ warning\n    Body.", [note("Warning", "Body.")]),
        (":::note\n\nBody.\n\n:::\n\nAfter", [note("Note", "Body."), prose("After")]),
        ("::: tip Quick\nBody.\n:::", [note("Quick", "Body.")]),
        (":::danger[Hot *stuff*]\nBody.\n:::", [note("Hot stuff", "Body.")]),
        ("> [!WARNING]\n> Body `x`.\n>\n> More.\n\n> Said.", [note("Warning", "Body `x`.\nMore."), prose("Said.")]),
        ("```{note}\n:class: x\n\nBody.\n```", [note("Note", "Body.")]),
        ("````{tip} Quick\n```py\nx\n```\nBody.\n````", [prose("Quick"), code("x", "python"), prose("Body.")]),
        ("```{code-block} toml\n:linenos:\n[a]\n```\n\n```{r}\nx <- 1\n```",
         [code("[a]", "toml"), code("x <- 1", "r")]),
        ("```{eval-rst}\n.. code-block:: c\n\n   int x;\n```", [code("int x;", "c")]),
        ("```{toctree}\na\nb\n```\n\nBody {func}`~a.b.c` {ref}`x <y>`.", [prose("Body `c` `x`.")]),
        ('=== "Shell"\n\n    ```sh\n    ls\n    ```', [prose("Shell"), code("ls", "sh")]),
        ("<details><summary>More</summary>\n\n*In*\n\n</details>", [prose("More"), prose("In")]),
        ("<table><tr><td>a</td><td><pre>b\nc</pre></td></tr></table>", [Table(headings=A, rows=(("a", "b\nc"),))]),
        ("[TOC]\n\nBody.", [prose("Body.")]),
        ("Term\n: One\n\n: Two\n", [Fields(headings=A, pairs=(("Term", "One\nTwo"),))]),
        ("Body.\n{: .big }\n\n[Get](x){ .md-button } [it](y){target=_blank} {ok}",
         [prose("Body."), prose("Get it {ok}")]),
        ("``` { .python .annotate }\nx {: .y }\n```", [code("x {: .y }", "python")]),
        ("(there)=\n## B\n\n*[HTML]: Hyper\n\nBody (x)= y.\n\n    (there)=",
         [prose("Body (x)= y.", "A", "B"), code("(there)=", "", ("A", "B"))]),
        ('{% raw %}\nBody {{ x }} {{< tip text="Pod" id="p" >}}.\n{% endraw %}\n\n`{% if %}`',
         [prose("Body {{ x }} Pod."), prose("`{% if %}`")]),
        ("<nav>menu</nav>\n\n<script>x()</script>\n\nBody.", [prose("Body.")]),
    ],
)  # fmt: skip
def test_markdown_is_the_same_typed_blocks_as_html(text, blocks):
    assert list(markdown.read(f"# A\n\n{text}\n".encode(), "a").blocks) == blocks


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("---\ntitle: Front\n---\n\nBody.", "Front"),
        ("---\ntitle: Front\n---\n\n# Own\n\nBody.", "Own"),
        ('+++\ntitle = "Hugo"\n+++\nBody.', "Hugo"),
        ("---\ntitle: Install guide\n---\n\n## Install\n\nBody.", "Install guide"),
        ("---\ntitle: [a, b]\n---\nBody.", "get started"),
        ("---\na: &a [x]\nb: *a\n: : bad\n---\nBody.", "get started"),
        ("Body.", "get started"),
    ],
)
def test_the_title_is_the_heading_or_the_front_matter_s_or_the_file_s_name(text, title):
    found = markdown.read(text.encode(), "get-started")
    assert found.title == title
    assert [block.text for block in found.blocks] == ["Body."]


def test_text_between_two_rules_is_no_front_matter():
    assert "Words" in markdown.read(b"---\nWords here.\n\n---\n\nBody.", "a").blocks[0].render()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbf# A\r\n\r\nGr\xc3\xb6\xc3\x9fe", "Größe"),
        ("# A\n\nGröße".encode("utf-16"), "Größe"),
        ("\ufeff# A\n\nGröße".encode("utf-16-be"), "Größe"),
    ],
)
def test_utf_8_and_utf_16_with_a_mark_are_read(data, text):
    assert markdown.read(data, "a").blocks == (prose(text),)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("Größe".encode("latin-1"), "its bytes are not utf-8"),
        ("Words".encode("utf-16-le"), "holds NUL"),
        (b"", "no text"),
        (b"---\ntitle: x\n---\n", "no text"),
        (b"x" * 4_000_001, "more than 4,000,000 characters"),
        (b"> " * 3000 + b"x", "nested too deeply|no text"),
    ],
)
def test_what_cannot_be_read_is_a_reason_in_one_line(data, why):
    with pytest.raises(ValueError, match=why) as e:
        markdown.read(data, "a")
    assert "\n" not in str(e.value)


MDX = """import Tabs from '@theme/Tabs';
import {
  A,
} from 'b';

export const meta = {
  a: 1,
};

# A

<Tabs items={["a", "b"]} onClick={() => { if (x > 2) y(); }}>
  <TabItem value="js" label="JS">

```js
import x from "y";
<Foo a={1}/>
```

  </TabItem>
</Tabs>

Press <Key name="c>d">Ctrl</Key> and `<Tag x={1}>`{" "}now.{/* gone */} if a < b

<CodeBlock language="js">{`
const a = 1;
  const b = 2;
`}</CodeBlock>

<div className="x" style={{a: 1}}>
Inner **text**
</div>

export your data by hand.
"""


def test_mdx_loses_its_program_and_keeps_text_and_code():
    assert list(markdown.read_mdx(MDX.encode(), "a").blocks) == [
        prose("JS"),
        code('import x from "y";\n<Foo a={1}/>', "js"),
        prose("Press Ctrl and `<Tag x={1}>` now. if a < b"),
        code("const a = 1;\n  const b = 2;"),
        prose("Inner text"),
        prose("export your data by hand."),
    ]


@pytest.mark.parametrize("text", ["{" * 5000, "<a " * 5000])
def test_what_never_closes_is_given_up(text):
    with pytest.raises(ValueError, match="never closed"):
        mdx.plain(text)


@pytest.mark.parametrize("text", ["{" * 5000, "<a " * 5000, "<a {" * 3000, "`" * 9000, "``x `" * 2000])
def test_hostile_mdx_is_over_soon(text):
    with contextlib.suppress(ValueError):
        assert len(mdx.plain(text)) < 10 * len(text)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab <>{}/`\"'\n#|-:!=[]()~*\\$&;.", max_size=120))
def test_no_text_is_a_traceback(text):
    for read in (markdown.read, markdown.read_mdx):
        with contextlib.suppress(ValueError):
            assert read(text.encode(), "a").blocks


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abc <>{}=/\n", min_size=1, max_size=80).filter(str.strip))
def test_fenced_code_stays_as_it_is_in_both(text):
    fenced = f"# A\n\n```js\n{text}\n```\n"
    for read in (markdown.read, markdown.read_mdx):
        (block,) = read(fenced.encode(), "a").blocks
        assert (block.text, block.language) == (text.strip("\n"), "js")
