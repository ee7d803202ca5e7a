"""The reader of all HTML: minimal pages, each showing one thing that gets lost easily, and the blocks of it."""

import pytest

from tune.data import html
from tune.data.block import Admonition, Code, Fields, Item, List, Prose, Table

A = ("A",)


def main(inside):
    return html.parse(f"<html><head><title>T</title></head><body><main><h1>A</h1>{inside}</main></body></html>")


def prose(text, *headings):
    return Prose(headings=headings or A, text=text)


def code(text, language="", headings=A):
    return Code(headings=headings, language=language, text=text)


def table(*rows):
    return Table(headings=A, rows=rows)


def fields(*pairs, headings=A):
    return Fields(headings=headings, pairs=pairs)


def listed(*items):
    return List(headings=A, items=tuple(Item(*item) for item in items))


@pytest.mark.parametrize(
    ("inside", "blocks"),
    [
        ("<p>Use <code>a  b</code> and <tt>`c`</tt>.</p>", [prose("Use `a b` and `` `c` ``.")]),
        ("<p>one<br>two</p>loose <b>words</b><p>three</p>", [prose("one two"), prose("loose words"), prose("three")]),
        ("<p>&#8203;</p><p>… —</p><p><code>==</code></p><p>so\u00adft\u200b</p>", [prose("`==`"), prose("soft")]),
        ("<a href=x><h2>B</h2><p>In a link.</p></a>", [prose("In a link.", "A", "B")]),
        (
            "<h3>C</h3><p>1</p><h2>B <code>b</code></h2><p>2</p><h3>C</h3><h4>D</h4><p>3</p>",
            [prose("1", "A", "C"), prose("2", "A", "B b"), prose("3", "A", "B b", "C", "D")],
        ),
        ("<pre>\n  a\n\n    b <i>c</i>\n\n</pre>", [code("  a\n\n    b c")]),
        ("<pre>a<br>b</pre>", [code("a\nb")]),
        ('<pre><code class="language-toml">[a]</code></pre>', [code("[a]", "toml")]),
        ("<pre>&gt;&gt;&gt; 1\n1</pre>", [code(">>> 1\n1", "python")]),
        ('<div class="highlight-default"><div><pre>x = 1</pre></div></div>', [code("x = 1", "python")]),
        (
            '<table class="highlighttable"><tr><td class="linenos"><pre>1</pre></td><td><pre>x</pre></td></tr></table>',
            [code("x")],
        ),
        (
            "<table><caption>Who</caption><tr><th>Tier</th><th>Plan</th><th>Seats</th></tr>"
            "<tbody><tr><td rowspan=2>North</td><td>Basic</td><td>14</td></tr><tr><td>Plus</td><td>9</td></tr></tbody>"
            "<tr><td colspan='2\x1f'>All</td><td>✓</td></tr></table>",
            [
                prose("Who"),
                table(("Tier", "Plan", "Seats"), ("North", "Basic", "14"), ("North", "Plus", "9"), ("All", "All", "✓")),
            ],
        ),
        (
            "<table><tr><td rowspan=0>x</td><td>1</td></tr><tr><td>2</td><td>3</td></tr><tr></tr></table>",
            [table(("x", "1", ""), ("x", "2", "3"), ("x", "", ""))],
        ),
        (
            "<table><tr><td>Use</td><td><ul><li>9 to 12</li><li>13</li></ul></td></tr>"
            "<tr><td><pre>if a:\n    go()</pre></td><td>a | <code>b</code></td></tr></table>",
            [table(("Use", "- 9 to 12\n- 13"), ("if a:\n    go()", "a | `b`"))],
        ),
        (
            "<table><tr><td>out</td><td><table><tr><td>in</td><td>ner</td></tr></table></td></tr></table>",
            [table(("out", "| in | ner |"))],
        ),
        (
            "<dl><dt><code>--fast</code></dt><dt>-f :</dt><dd><p>Go.</p><pre>tool -f</pre><p>Yes.</p></dd>"
            "<div><dt>--slow:</dt><dd>Slowly.</dd></div><dt>--none</dt></dl>",
            [
                fields(("`--fast`, -f", "Go.")),
                code("tool -f"),
                prose("Yes."),
                fields(("--slow", "Slowly."), ("--none", "")),
            ],
        ),
        (
            '<table class="field-list"><tr><th>Returns:</th><td>the sum</td></tr>'
            "<tr><th>Raises:</th><td>E</td></tr></table>",
            [fields(("Returns", "the sum"), ("Raises", "E"))],
        ),
        (
            '<table class="field-list"><tr><th colspan=2>A long name:</th></tr><tr><td>&nbsp;</td><td>text</td></tr>'
            "<tr><th>Raises:</th><td>E</td></tr><tr><td></td><td>F</td></tr></table>",
            [fields(("A long name", "text"), ("Raises", "E\nF"))],
        ),
        (
            "<ol start=3><li>First<ol><li value=7>inner</li><li>more</li></ol></li><li><p>a</p><p>b</p></li></ol>",
            [listed((0, "3.", "First"), (1, "7.", "inner"), (1, "8.", "more"), (0, "4.", "a\nb"))],
        ),
        (
            "<ul><li>Do<pre>x</pre>then</li><ul><li>deep</li></ul><li>Stop</li></ul>",
            [listed((0, "-", "Do")), code("x"), prose("then"), listed((1, "-", "deep"), (0, "-", "Stop"))],
        ),
        (
            '<div class="admonition note"><p class="admonition-title">Note:</p><p>One.</p><p>Two.</p>'
            "<pre>x</pre></div>",
            [Admonition(headings=A, title="Note", text="One.\nTwo."), code("x")],
        ),
        ('<div class="markdown-alert"><p>Bare.</p></div>', [prose("Bare.")]),
        (
            '<dl class="py class"><dt class="sig" id="m.C">class C(a)</dt><dd><p>Is C.</p>'
            '<dl class="py method"><dt class="sig" id="m.C.f">f(<em>a</em>)</dt><dt class="sig">f()</dt>'
            "<dd><p>Does f.</p>"
            '<dl class="field-list"><dt>Parameters<span class="colon">:</span></dt>'
            "<dd><ul><li><strong>a</strong> (<em>int</em>) – first</li></ul></dd>"
            '<dt>Returns<span class="colon">:</span></dt><dd><p>the sum</p></dd></dl></dd></dl>'
            "<h2>Odd</h2><p>Inside.</p></dd></dl><p>After.</p>",
            [
                code("class C(a)", "python", ("A", "m.C")),
                prose("Is C.", "A", "m.C"),
                code("f(a)\nf()", "python", ("A", "m.C", "m.C.f")),
                prose("Does f.", "A", "m.C", "m.C.f"),
                fields(("Parameters", "- a (int) – first"), ("Returns", "the sum"), headings=("A", "m.C", "m.C.f")),
                prose("Inside.", "A", "m.C", "Odd"),
                prose("After."),
            ],
        ),
        (
            '<div class="tip"><h3 class="title">Fast: </h3><p>x</p></div><div class="note"><h3>Note</h3><p>y</p></div>'
            '<div class="important"><h3>Setup</h3><p>z</p></div>',
            [
                Admonition(headings=A, title="Fast", text="x"),
                Admonition(headings=A, title="Note", text="y"),
                prose("z", "A", "Setup"),
            ],
        ),
        (
            "<p>x</p><div class='prev-next-area'><a href=a.html><div><p>previous</p><p>B</p></div></a></div>",
            [prose("x")],
        ),
        (
            "<pre><code class='language-C++'>x</code></pre><p>a <span class='docutils literal'>b</span></p>",
            [code("x", "c++"), prose("a `b`")],
        ),
        ("<details><h2>B</h2><p>x</p></details><p>y</p>", [prose("x", "A", "B"), prose("y")]),
        ("<aside><h2>B</h2><p>x</p></aside><p>y</p>", [prose("x", "A", "B"), prose("y")]),
        (
            '<dl class="cpp function"><dt class="sig" id="_CPPv31fi">int <span class="sig-name">f</span>(int a)</dt>'
            '<dd>x</dd></dl><dl class="js data"><dt class="sig" id="m.v">m.<b class="descname">v</b></dt><dd>y</dd>'
            '</dl><dl class="std option"><dt class="sig" id="o"><b class="sig-name">-o</b> FILE</dt><dd>z</dd></dl>',
            [
                code("int f(int a)", "cpp", ("A", "f")),
                prose("x", "A", "f"),
                code("m.v", "javascript", ("A", "v")),
                prose("y", "A", "v"),
                code("-o FILE", "", ("A", "-o")),
                prose("z", "A", "-o"),
            ],
        ),
        # Words and lines that only tags keep apart.
        (
            '<pre><code class="language-py"><div class="ec-line"><div>a = 1</div></div><div>\n</div><div>b = 2</div>'
            "</code></pre>",
            [code("a = 1\n\nb = 2", "python")],
        ),
        ("<h2>Beta<br>Gamma</h2><p>x</p>", [prose("x", "A", "Beta Gamma")]),
        ("<dl><dt><p>a</p><div>b</div></dt><dd>c</dd></dl>", [fields(("a b", "c"))]),
        ("x<label>One</label><label>Two</label><!-- no break -->y <code>a<br>b</code>", [prose("x One Two y `a b`")]),
        (
            "one <span><a>two <b><h3>Head</h3><p>three</p></b></a></span>four<code><pre>x</pre></code>",
            [
                prose("one two"),
                prose("three", "A", "Head"),
                prose("four", "A", "Head"),
                code("x", headings=("A", "Head")),
            ],
        ),
        # Headings inside: what stands under one comes after the item, the field or the note, with that heading.
        ("<ul><li><h3>Install</h3><p>Run pip.</p></li></ul>", [prose("Run pip.", "A", "Install")]),
        (
            "<ol><li>One<h3>B</h3><ul><li>in</li></ul></li><li><h3>Only</h3></li></ol><p>z</p>",
            [
                listed((0, "1.", "One")),
                List(headings=("A", "B"), items=(Item(0, "-", "in"),)),
                listed((0, "2.", "Only")),
                prose("z"),
            ],
        ),
        (
            "<dl><dt>T</dt><dd>D<h4>B</h4><p>x</p></dd><dt>U</dt><dd><h4>Only</h4></dd></dl>",
            [fields(("T", "D")), prose("x", "A", "B"), fields(("U", "Only"))],
        ),
        (
            '<div class="admonition"><p class="admonition-title">Note</p><p>x</p><h4>B</h4><p>y</p></div><p>z</p>',
            [Admonition(headings=A, title="Note", text="x"), prose("y", "A", "B"), prose("z")],
        ),
        (
            "<table><tr><td><h4>Alpha</h4></td><td><h4>B</h4><p>x</p><ul><li><h5>C</h5>y</li></ul></td></tr></table>",
            [table(("Alpha", "B\nx\n- C\n  y"))],
        ),
        # U+FFFD as a page that documents it shows it, and as the parser writes it for NUL.
        ("<p>Use � (U+FFFD, the replacement), or A&#0;B.</p>", [prose("Use � (U+FFFD, the replacement), or A�B.")]),
        ("<pre>a�b a�b a�b a�b</pre>", [code("a�b a�b a�b a�b")]),
        ("<form><p>In a form.</p><label>Find</label><input></form><nav>menu</nav>", [prose("In a form.")]),
        ('<div class="clearer"><p>Words.</p></div>', [prose("Words.")]),
        ('<div class="contents"><p>Doxygen\'s page.</p></div>', [prose("Doxygen's page.")]),
        ('<div class="contents topic">toc</div><nav class="contents">toc</nav><p>x</p>', [prose("x")]),
        ('<div class="navheader">Up</div><p>x</p><div class="navfooter">Next</div>', [prose("x")]),
        (
            '<h2><a class="header-anchor" href="#b">#</a>B<a class="id_link">link</a></h2><p>x</p>'
            '<h2><a class="header-anchor" href="#c"><span>C</span></a></h2><p>y</p>',
            [prose("x", "A", "B"), prose("y", "A", "C")],
        ),
        (
            "<section><header><h2>B</h2><p>x</p></header><p>y</p></section>",
            [prose("x", "A", "B"), prose("y", "A", "B")],
        ),
        ("<header><p>Menu</p></header><p>x</p>", [prose("x")]),
        ("<table><caption><h4>Who</h4></caption><tr><td>x</td></tr></table>", [prose("Who"), prose("x")]),
    ],
)
def test_blocks(inside, blocks):
    assert list(main(inside).blocks) == blocks


@pytest.mark.parametrize(
    ("page", "title", "first"),
    [
        # The page's own heading, not the site's: above the content, as a link, or as what <title> does not begin with.
        ("<title>Q | Foo</title><body><h1><a href=i>Foo</a></h1><div><h1>Q</h1><p>x</p></div>", "Q", ("Q",)),
        ("<title>Q | Foo</title><body><h1>Foo docs</h1><div><h1>Q</h1><p>x</p></div>", "Q", ("Q",)),
        ("<body><header><h1>Foo</h1></header><main><h1>Q</h1><p>x</p></main>", "Q", ("Q",)),
        ("<body><header><h1>Foo</h1></header><h1>Q</h1><p>x</p>", "Q", ("Q",)),
        ("<body><header><h1>Foo</h1><h2>The site</h2></header><h1>Q</h1><p>x</p>", "Q", ("Q",)),
        ("<body><h1>Q</h1><section><header><h2>B</h2></header><p>x</p></section>", "Q", ("Q", "B")),
        ("<body><main><header><h1>Foo</h1></header><h1>Q</h1><p>x</p></main>", "Q", ("Q",)),
        ("<title>Q - Foo</title><body><main><h1>Foo</h1><h2>Q</h2><p>x</p></main>", "Q", ("Foo", "Q")),
        # What stands under the site's name stays; a heading that <title> begins with is never the site's.
        ("<title>Q | Foo</title><body><h1><a href=i>Foo</a></h1><p>x</p><h1>Q</h1><p>y</p>", "Q", ("Q",)),
        ("<title>Foo: HTTP</title><main><h1><a href=i>Foo</a></h1><p>x</p><h1>Usage</h1><p>y</p>", "Foo", ("Foo",)),
        # But a heading that stands in the article's own header, and one with a link to itself, are the page's.
        ("<body><article><header><h1>Q</h1></header><p>x</p></article>", "Q", ("Q",)),
        ('<body><h1><a href="#q">Q</a></h1><p>x</p><h1>R</h1><p>y</p>', "Q", ("Q",)),
        ("<title>Que</title><body><h1>Q</h1><p>x</p>", "Q", ("Q",)),
        ("<title>T</title><body><p>x</p><h2>B</h2><p>y</p>", "T", ("T",)),
        ("<body><p>x</p>", "untitled", ("untitled",)),
        # A theme's class on the page itself drops nothing.
        ('<body><div class="document clearer body"><h1>Q</h1><p>x</p></div>', "Q", ("Q",)),
        ('<body><div class="related body"><h1>Q</h1><p>x</p></div>', "Q", ("Q",)),
        ('<body role="navigation"><h1>Q</h1><p>x</p>', "Q", ("Q",)),
    ],
)
def test_title(page, title, first):
    read = html.parse(page)
    assert (read.title, read.blocks[0]) == (title, prose("x", *first))


UMLAUT = "<body><h1>Größe</h1><p>€ „Bäume“</p>"


@pytest.mark.parametrize(
    ("data", "charset"),
    [
        (UMLAUT.encode(), ""),
        (UMLAUT.encode("utf-8-sig"), ""),
        (UMLAUT.encode("utf-16"), ""),
        (UMLAUT.encode("cp1252"), "ISO-8859-1"),
        (b"<meta charset='latin1'>" + UMLAUT.encode("cp1252"), ""),
        (b'<meta http-equiv="content-type" content="text/html; charset=windows-1252">' + UMLAUT.encode("cp1252"), ""),
        (b"<meta charset=latin1>" + UMLAUT.encode(), '"utf-8"'),
        (b"\xef\xbb\xbf<meta charset=latin1>" + UMLAUT.encode(), ""),
        (b"<meta charset=utf-16>" + UMLAUT.encode(), ""),
    ],
)
def test_the_header_then_the_mark_then_meta_then_utf_8_says_the_charset(data, charset):
    read = html.read(data, charset)
    assert (read.title, read.blocks[0].text) == ("Größe", "€ „Bäume“")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (UMLAUT.encode("cp1252"), "its bytes are not utf-8"),
        (b"<meta charset=ascii><p>a \x81", "its bytes are not cp1252"),
        (b"<meta charset=klingon>" + UMLAUT.encode(), "the charset 'klingon' that it declares is not known"),
        ("<body><p>Gr\ufffd\ufffde, B\ufffdume, \ufffdl, na\ufffd</p>".encode(), "U\\+FFFD"),
        (b"<body><h1>Only a heading</h1><p> </p>", "no text"),
        (b"", "no text"),
        (b'<meta http-equiv="Refresh" content="0; url=new.html"><body><p>Moved.</p>', "a redirect to new.html, not"),
        (b"<meta http-equiv=refresh content=\"0;URL='new.html'\">", "a redirect to new.html"),
        (b"<script>window.location.replace('new.html')</script><p>Wait.</p>", "a redirect to another page"),
        (b"<p>x</p>" + b"<div>" * 5000, "nested too deeply"),
        (b"<table>" + b"<tr><td colspan=1000>x</td></tr>" * 201 + b"</table>", "a table of more than 200,000 cells"),
        (b"x" * (html.LARGEST + 1), "more than 4,000,000 characters"),
    ],
)
def test_what_is_no_page_says_why(data, why):
    with pytest.raises(ValueError, match=why):
        html.read(data)


def test_a_page_that_reloads_or_that_a_script_could_leave_is_a_page():
    words = "<p>" + "Many words. " * 30 + "</p>"
    for head in ('<meta http-equiv=refresh content="300">', "<script>location.href = 'x'</script>"):
        assert html.parse(head + words).blocks
    assert html.parse('<meta http-equiv=refresh content="900; url=x"><p>News.</p>').blocks


def test_the_type_behind_a_term_is_apart_from_it():
    term = "<strong>deep</strong><span class=classifier>bool, default False</span>"
    page = f"<body><h1>T</h1><dl><dt>{term}</dt><dd>Look.</dd></dl>"
    [block] = html.parse(page).blocks
    assert block.pairs == (("deep : bool, default False", "Look."),)


def test_the_way_to_the_pages_beside_is_no_text():
    said = ["Previous: The engine | Next: Metadata", "Prev | Up | Next", "Next: all of them", "Home | Sweet home"]
    page = f"<body><h1>T</h1>{''.join(f'<p>{text}</p>' for text in said)}</body>"
    assert [block.text for block in html.parse(page).blocks] == ["Next: all of them", "Home | Sweet home"]
