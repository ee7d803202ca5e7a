"""The page of a dataset in a real browser: what it holds cannot run, rows are found and read, nothing overflows."""

import hashlib
import html
import json
import re
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import chromium
import pytest
import shown

from tune.recipe import Recipe
from tune.views.show import show

HOSTILE = (
    "</script></pre></table><!-- <script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "<a href=\"javascript:document.title='owned'\" onclick=x>\"'& {{ 7*7 }} ]]> \u2028\u2029"
    " \u202egnp.exe\u202c \x00\x1b[31m \ud800 \u05e9\u05dc\u05d5\u05dd 🤷🏽‍♂️ ${x} `"
)
LONG = "x" * 10_000_000


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Every text of a dataset is hostile that can be, and one has 10 MB on one line."""
    made = shown.project(tmp_path_factory.mktemp("hostile"))
    bare = HOSTILE.replace("\ud800", "")  # what a page may hold
    pages = [shown.a_page(bare, bare, bare, title=bare), shown.a_page(f"{bare}2", bare), shown.a_page("p", "Text.")]
    texts = {"question": HOSTILE, "answer": HOSTILE, "analysis": HOSTILE}
    rows = [shown.example(f"{HOSTILE}1", bare, **texts, kind=HOSTILE, effort="low", heading=HOSTILE)]
    rows += [shown.example("long", "p", answer=LONG, effort="high"), shown.example("none", "gone", analysis=None)]
    told = {"id": HOSTILE, "reason": HOSTILE, "detail": HOSTILE, "question": HOSTILE, "kind": HOSTILE, "page": HOSTILE}
    failures = [{"id": HOSTILE, "reason": HOSTILE}]
    shown.write(made, pages, rows, samples=[told, "\x00{"], failures=failures, dropped={bare: 3})
    with (made.work / "dataset/dropped.jsonl").open("ab") as f:
        f.write(b"\xff\xfe\n")
    shown.artefact.finish(made.work / "dataset", "dataset")
    show(made)
    return (made.work / "dataset.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pages with rows of three kinds, some without, some lost, and a stale stage."""
    made: Recipe = shown.project(tmp_path_factory.mktemp("plain"))
    pages = [shown.a_page(f"page{n}", f"Text number {n} about things.", "More.") for n in range(12)]
    rows = [
        shown.example(
            f"page{p}#{kind}-{n}",
            f"page{p}",
            kind=kind,
            question=f"What is number {n} of {kind} on page {p}?",
            answer=f"Value {100 * p + n}",
            effort=("low", "medium", "high")[n % 3],
        )
        for p in range(10)
        for kind in shown.KINDS
        for n in range(1 + p % 4)
    ]
    samples = [{"id": "x", "reason": "short", "detail": "2 characters", "question": "Q?", "answer": "A"}]
    failures = [{"id": "http://host/" + "long/" * 40, "reason": "HTTP 404"}]
    shown.write(made, pages, rows, held=["page3"], samples=samples, failures=failures, dropped={"short": 1})
    show(shown.project(made.folder, "seed = 5"))
    return (made.work / "dataset.html").read_text(encoding="utf-8")


def inert(text: str) -> None:
    """No tag of the page can run or fetch anything, and its two scripts are its own."""
    tags = shown.Read(text).tags
    known = "html head meta title style body main header section nav script h1 h2 h3 p dl dt dd div small span code b "
    known += "i a pre table thead tbody tr th td button details summary ul li figure svg line rect label input select "
    known += "option noscript"
    assert {tag for tag, _ in tags} <= {*known.split()}
    for tag, attributes in tags:
        assert not any(name.startswith("on") for name in attributes), tag
        assert not {"src", "srcset", "action", "xlink:href"} & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
    assert [tag for tag, _ in tags].count("script") == 2


def test_untrusted_text_stays_text_and_nothing_is_fetched(hostile: str) -> None:
    inert(hostile)
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", hostile, re.S)
    assert hostile.count("<script") == hostile.count("</script>") == 2, "the data ends no script and begins none"
    own = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{own}'; base-uri 'none'; form-action 'none'"
    )
    assert f'http-equiv="Content-Security-Policy" content="{policy}"' in hostile
    assert not re.search(r"fetch|XMLHttp|import|eval|innerHTML|outerHTML|insertAdjacent|write|https?:", script)
    assert len(json.loads(data)["rows"]) == 3
    style = re.search(r"<style>(.*?)</style>", hostile, re.S)
    assert style
    assert not re.search(r"url\(|@import|//", style[1])
    assert not re.search("[\x00\x1b\u2028\u202e]", hostile)
    assert len(hostile) < 100_000, "10 MB were cut"


def opened(folder: Path, text: str, after: str = "") -> tuple[str, str]:
    """The page as the browser has it, by its file, and what it said on its console."""
    page = folder / "dataset.html"
    page.write_text(text, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    flags += [
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}",
    ]
    start = ["chromium", *flags, page.as_uri() + after]
    done = subprocess.run(start, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@chromium.needed
def test_a_real_browser_runs_nothing_of_it_and_says_no_error(tmp_path: Path, hostile: str) -> None:
    owned = hostile.replace(
        "<main>", "<main><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    )
    dom, console = opened(tmp_path, owned)
    assert "Content Security Policy" in console, "what would run is heard of"
    assert "<title>owned</title>" not in dom, "and the page's policy stops even that"
    dom, console = opened(tmp_path, hostile, "#row=" + "long")
    assert console == ""
    assert "<title>Dataset of docs</title>" in dom
    assert "3 of 3 rows" in dom
    assert "cut: the first 6,000 of 10,000,000 characters" in dom
    inert(dom)


DO = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<iframe style="border:0;width:WIDTHpx;height:900px;color-scheme:light dark"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  const all = (what, inside) => [...(inside || page).querySelectorAll(what)];
  const texts = (what, inside) => all(what, inside).map((part) => part.textContent.trim());
  const field = (name) => page.querySelector(`.filter [name=${name}]`);
  const type = (name, value) => {
    field(name).value = value;
    field(name).dispatchEvent(new Event("input", { bubbles: true }));
  };
  const out = [];
  try { BODY } catch (e) { out.push("failed: " + e) }
  document.title = JSON.stringify(out);
};
frame.srcdoc = PAGE;
</script>"""


def done(folder: Path, body: str, page: str, *flags: str, width: int = 1280) -> Any:
    """What a script on the page pushes to `out`."""
    return chromium.told(folder, DO.replace("BODY", body).replace("WIDTH", f"{width}"), page, *flags)


@chromium.needed
def test_hostile_rows_unfold_to_what_they_say(tmp_path: Path, hostile: str) -> None:
    body = """
    all(".reading th button")[0].click();
    out.push(texts(".reading .under pre"), all(".reading .under :is(img, script, a[onclick])").length, page.title);
    type("find", "GNP.EXE"); out.push(texts(".filter p")[0]);
    """
    said, ran, title, found = done(tmp_path, body, hostile)
    bare = HOSTILE.replace("\ud800", "\\ud800").replace("\x00", "\\x00").replace("\x1b", "\\x1b")
    for mark in "\u2028\u2029\u202e\u202c":
        bare = bare.replace(mark, f"\\u{ord(mark):04x}")
    assert said[:3] == [bare.strip()] * 3
    assert (ran, title, found) == (0, "Dataset of docs", "1 of 3 rows")


@chromium.needed
def test_rows_are_searched_filtered_paged_and_unfolded_and_pages_sorted(tmp_path: Path, plain: str) -> None:
    body = """
    out.push([texts(".filter p")[0], all(".reading tbody tr").length, texts(".paging span")[0]]);
    all(".paging button")[1].click(); out.push([texts(".reading tbody th button")[0], texts(".paging span")[0]]);
    type("kind", "signature"); type("side", "eval"); out.push([texts(".filter p")[0], all(".reading tbody tr").length]);
    type("side", ""); type("effort", "high"); out.push(texts(".reading tbody td:nth-child(3)"));
    type("effort", ""); type("kind", ""); type("find", "NUMBER 2  page 7"); out.push(texts(".reading tbody th button"));
    const button = all(".reading tbody th button")[0]; button.click();
    out.push([button.getAttribute("aria-expanded"), texts(".reading .under pre"), texts(".reading .under dd"),
      texts(".reading .under .turn p")]);
    button.click(); out.push(all(".reading .under").length);
    type("find", "nowhere"); out.push([texts(".filter p")[0], page.querySelector(".reading").hidden]);
    const heads = all(".sortable thead button"), first = () => texts(".sortable tbody tr:first-child th a")[0];
    out.push(texts(".sortable tbody tr").filter((line) => line.includes("eval")).map((line) => line.split(/\\s/)[0]));
    for (const n of [0, 0, 1, 1]) {
      heads[n].click();
      out.push([first(), heads[n].parentNode.getAttribute("aria-sort")]);
    }
    """
    start, later, held, high, found, unfolded, folded, none, held_out, *sorts = done(tmp_path, body, plain)
    assert start == ["69 of 69 rows", 20, "1 to 20 of 69"]
    assert later[1] == "21 to 40 of 69"
    assert later[0] == "What is number 2 of section on page 3?"
    assert held == ["4 of 69 rows", 4]
    assert set(high) == {"high"}
    assert found == [f"What is number 2 of {kind} on page 7?" for kind in shown.KINDS]
    expanded, said, facts, heads = unfolded
    assert expanded == "true"
    assert said[:3] == ["What is number 2 of section on page 7?", "Hm.", "Value 702"]
    assert said[3].endswith("Text number 7 about things.")
    assert facts[:3] == ["page7", "s, page7, §0, l", "grounded"]
    assert re.fullmatch(r"answer \d+ of \d+ tokens learned", heads[-1])
    assert heads[1].endswith("read and not learned")
    assert folded == 0
    assert none == ["0 of 69 rows", True]
    assert held_out == ["page3"]
    assert sorts == [["page0", "ascending"], ["page9", "descending"], ["page7", "descending"], ["page8", "ascending"]]


@chromium.needed
def test_the_address_says_which_rows_are_shown(tmp_path: Path, plain: str) -> None:
    dom, _ = opened(tmp_path, plain, "#kind=section&side=eval&find=page%203")
    assert "4 of 69 rows" in dom
    dom, _ = opened(tmp_path, plain, "#row=page9%23signature-1")
    assert "61 to 69 of 69" in dom
    assert html.escape("Value 901") in dom.partition('class="under"')[2]


LAYOUT = """
    for (const part of all("details")) part.open = true;
    all(".reading th button")[0].click();
    const lost = [], rooms = "section, .tiles div, main, body", apart = ".chart, .reading thead";
    for (const part of all("body *:not(svg *, script, option)")) {
      const box = part.getBoundingClientRect(), room = part.closest(rooms).getBoundingClientRect();
      if (view.getComputedStyle(part).position === "absolute" || part.closest(apart) || !box.width) continue;
      const beyond = box.right > room.right + 0.5 || box.left < room.left - 0.5;
      if (beyond) lost.push(`${part.tagName}.${part.className} ${part.textContent.trim().slice(0, 40)}`);
    }
    out.push([view.innerWidth, page.scrollingElement.scrollWidth], lost, all("section").length);
"""


@chromium.needed
@pytest.mark.parametrize("width", [380, 720, 1280])
@pytest.mark.parametrize("which", ["plain", "hostile"])
def test_nothing_overflows(tmp_path: Path, which: str, width: int, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(which)
    wide = text.replace("<main>", '<main><section><p style="width: 2000px">wide</p></section>')
    (inner, scrolled), lost, _ = done(tmp_path, LAYOUT, wide, width=width)
    assert scrolled > inner
    assert "P. wide" in lost, "what overflows is found"
    (inner, scrolled), lost, sections = done(tmp_path, LAYOUT, text, width=width)
    assert lost == []
    assert scrolled <= inner == width
    assert sections >= 5


LOOKS = """
    for (const part of all("details")) part.open = true;
    all(".reading th button")[0].click();
    const light = (rgb) => {
      const linear = (s) => s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
      const [r, g, b] = rgb.match(/[\\d.]+/g).map((x) => linear(x / 255));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const style = (part) => view.getComputedStyle(part), faint = [];
    const own = (part) => [...part.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const parts = all("body *:not(svg *, script, option)").filter((part) => own(part) && !part.disabled);
    for (const part of parts) {
      let behind = part;
      while (behind && style(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
      const two = [light(style(part).color), light(style(behind || page.body).backgroundColor)].sort((a, b) => b - a);
      const seen = (two[0] + 0.05) / (two[1] + 0.05);
      if (seen < 4.5) faint.push(part.tagName + " " + part.textContent.trim().slice(0, 30));
    }
    const levels = all("h1, h2, h3, h4, h5, h6").map((part) => Number(part.tagName[1]));
    const jumps = levels.filter((level, n) => n && level > levels[n - 1] + 1).length;
    const says = (part) => {
      if (part.matches("svg")) return part.querySelector(":scope > title");
      return /INPUT|SELECT/.test(part.tagName) ? [...part.labels].some(own) : part.textContent.trim();
    };
    const nameless = all("input, select, button, nav, [role=region], [role=img], svg").filter((part) =>
      !says(part) && !part.getAttribute("aria-label"));
    const ids = all("[id]").map((part) => part.id), twice = ids.filter((id, n) => ids.indexOf(id) !== n);
    const refs = all("[aria-labelledby]").filter((part) => !page.getElementById(part.getAttribute("aria-labelledby")));
    out.push(style(page.body).backgroundColor, parts.length, faint);
    out.push(levels[0], jumps, nameless.length, twice, refs.length);
"""


@chromium.needed
@pytest.mark.parametrize(
    ("scheme", "paper"), [(1, "rgb(245, 244, 240)"), (0, "rgb(18, 21, 24)")], ids=["light", "dark"]
)
def test_it_can_be_read_in_light_and_in_dark_and_by_a_screen_reader(
    tmp_path: Path, plain: str, scheme: int, paper: str
) -> None:
    flag = f"--blink-settings=preferredColorScheme={scheme}"
    background, parts, faint, *structure = done(tmp_path, LOOKS, plain, flag)
    assert background == paper
    assert parts > 150
    assert faint == []
    assert structure == [1, 0, 0, [], 0]
