"""MDX -> Markdown: imports, exports, JSX tags and expressions out, what stands between the tags and code stay.

In: text. Out: text for the Markdown reader. A scan over characters, never more than a few times their number. Knows
nothing about Markdown's blocks but fences, and nothing about which components there are.
"""

import re

_FENCE = re.compile(r"[ \t]*(?:>[ \t]*)*(?:[-*+][ \t]+|\d+[.)][ \t]+)?(`{3,}|~{3,})(.*)")
_MODULE = re.compile(r"(?:import\s+(?:[\w{*\"']).*|export\s+(?:default|const|let|var|function|async|class|\{|\*).*)")
_TAG = re.compile(r"<(/?)([A-Za-z][\w.:-]*)(?=[\s/>])")
_FAR = 20_000  # characters: no tag and no expression of documentation is longer
UNCLOSED = 500  # tags and braces: each costs a look that far
_LESS, _OPEN = "&lt;", "&#123;"
_VOID = {"br", "hr", "img", "input", "wbr"}
_BLOCK = {"div", "details", "section", "summary", "p", "aside", "figure", "center", "main", "article"}
_INLINE = "a b i em strong code kbd sub sup span del ins u s small mark abbr"
_PARTS = "pre table thead tbody tr td th ul ol li dl dt dd h1 h2 h3 h4 h5 h6 blockquote"
_HTML = {*_BLOCK, *_VOID, *_INLINE.split(), *_PARTS.split()}


def plain(text: str) -> str:
    """Markdown of an MDX text. Lines of fenced code, and code between backticks, stay as they are."""
    out: list[str] = []
    words: list[str] = []
    fence = ""

    def flush() -> None:
        out.append(_tags("".join(words)))
        words.clear()

    for line in _without_modules(text).splitlines(keepends=True):
        told = _FENCE.match(line)
        if fence:
            out.append(line)
            if told and told[1].startswith(fence) and not told[2].strip():
                fence = ""
        elif told and "`" not in told[2]:
            flush()
            fence = told[1]
            out.append(line)
        else:
            words.append(line)
    flush()
    return "".join(out)


def _without_modules(text: str) -> str:
    """Without import and export statements: from such a line, outside a fence, to the next empty one."""
    out, fence, inside = [], "", False
    for line in text.splitlines(keepends=True):
        told = _FENCE.match(line)
        if fence:
            fence = "" if told and told[1].startswith(fence) and not told[2].strip() else fence
        elif told:
            fence, inside = told[1], False
        elif inside or _MODULE.match(line):
            inside = bool(line.strip())
            continue
        out.append(line)
    return "".join(out)


def _tags(text: str) -> str:
    """Text without JSX: tags of components go, HTML's lose their attributes, expressions leave their string."""
    out: list[str] = []
    at = unclosed = 0
    while at < len(text):
        c, before = text[at], len(out)
        if c == "\\":
            out.append(text[at : at + 2])
            at += 2
        elif c == "`":
            run = next(i for i in range(1, len(text) + 1) if text[at + i : at + i + 1] != "`")
            stop = text.find("\n\n", at, at + _FAR)
            end = text.find("`" * run, at + run, stop if stop >= 0 else at + _FAR)
            end = at if end < 0 else end  # nothing closes it: it stands for itself
            out.append(text[at : end + run])
            at = end + run
        elif c == "<" and text.startswith("<!--", at):
            end = text.find("-->", at)
            at = len(text) if end < 0 else end + 3
        elif _TAG.match(text, at) or text.startswith(("<>", "</>"), at):
            at = _past_tag(text, at, out)
        elif c == "{":
            end = _closed(text, at)
            out.append(_string(text[at + 1 : end - 1]) if end else _OPEN)
            at = end or at + 1
        else:
            out.append(c)
            at += 1
        unclosed += _OPEN in out[before:] or _LESS in out[before:]
        if unclosed > UNCLOSED:
            raise ValueError("more tags and braces are never closed than any MDX has")
    return "".join(out)


def _past_tag(text: str, at: int, out: list[str]) -> int:
    """Where the tag at `at` ends. What stays of it is put in `out`: the bare tag of HTML, room around one alone."""
    if text.startswith(("<>", "</>"), at):
        return at + (2 if text[at + 1] == ">" else 3)
    tag = _TAG.match(text, at)
    end, quote = (tag.end() if tag else at + 1), ""
    last = min(len(text), at + _FAR)
    while end < last and (quote or text[end] != ">"):
        c = text[end]
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c == "{":
            end = (_closed(text, end) or last) - 1
        end += 1
    if end >= last or tag is None:
        out.append(_LESS)
        return at + 1
    name = tag[2] or ""
    alone = not text[text.rfind("\n", 0, at) + 1 : at].strip() and not text[end + 1 : end + 2].strip()
    if name in _HTML:
        named = re.search(r"\b(?:class|className)=\"([\w -]+)\"", text[at:end]) if not tag[1] else None
        bare = f"<{tag[1]}{name}{f' class={chr(34)}{named[1]}{chr(34)}' if named else ''}>"
        out.append(f"\n\n{bare}\n\n" if alone and name in _BLOCK else bare)
    elif alone:
        label = re.search(r"\b(?:label|title)=\"([^\"<>{}]+)\"", text[at:end])
        out.append(f"\n\n{label[1]}\n\n" if label else "\n\n")
    return end + 1


def _closed(text: str, at: int) -> int:
    """Where the expression that begins at `at` with "{" is over; 0 when nothing closes it."""
    depth, quote, end = 0, "", at
    last = min(len(text), at + _FAR)
    while end < last:
        c = text[end]
        if quote:
            if c == "\\":
                end += 1
            elif c == quote:
                quote = ""
        elif c in '"`' or (c == "'" and not text[end - 1].isalnum()):
            quote = c
        elif c in "{}":
            depth += 1 if c == "{" else -1
            if not depth:
                return end + 1
        end += 1
    return 0


def _string(expression: str) -> str:
    """What an expression shows: a string its text, several lines of one as a fence; anything else nothing."""
    bare = expression.strip()
    if len(bare) < 2 or bare[0] not in "\"'`" or bare[-1] != bare[0]:
        return ""
    inside = bare[1:-1]
    if "\n" not in inside.strip("\n"):
        return inside
    fence = "~" * (3 + max((len(run) for run in re.findall("~+", inside)), default=0))
    return f"\n\n{fence}\n{inside.strip(chr(10))}\n{fence}\n\n"
