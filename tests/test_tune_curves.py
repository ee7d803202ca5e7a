"""The page of a training run: all of the history is on it, whatever the history holds, and nothing on it can run."""

import math
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune.training.views.curves import page
from tune.training.views.scale import axis

HOSTILE = "</h1></table><script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"
SETTINGS = {"train": {"rank": 8, "learning_rate": 2e-4, "hosts": [], "seed": 3407}, "base": "openai/gpt-oss-20b"}
FIGURES = {"tokens": 603211, "eval_loss": None, "changed_share": 0.123456, "versions": {"torch": "2.13.0"}}
Entry = dict[str, float]


def history(steps: int = 60, *, looks: bool = True, memory: float = 14.2e9, **changed: Callable[[int], float]) -> list:
    """A run that learns, with a wave for noise and a look every tenth step."""
    entries: list[Entry] = []
    for step in range(1, steps + 1):
        t = step / steps
        entry = {
            "step": step,
            "loss": round(1.4 + math.exp(-8 * t) + 0.05 * math.sin(7 * step), 4),
            "lr": 2e-4 * min(1, step / 5) * (1 - t),
            "tokens": 3000 * step,
            "grad_norm": 1.0,
            "seconds": 0.9 * step,
            "memory": memory,
        }
        entries.append(entry | {key: value(step) for key, value in changed.items()})
        if looks and step % 10 == 0:
            entries.append({"step": step, "eval_loss": round(1.45 + math.exp(-8 * t), 4)})
    return entries


def made(entries: list[Entry], **more: Any) -> str:
    given = {"title": "python-docs", "settings": SETTINGS, "figures": FIGURES, "base_eval": 2.5}
    return page(entries, **(given | more))


def drawings(text: str) -> dict[str, ElementTree.Element]:
    """Every SVG of the page, parsed as XML, by the first words of its title."""
    found = {}
    for svg in re.findall(r"<svg.*?</svg>", text, re.S):
        root = ElementTree.fromstring(svg)
        title = root.findtext("title")
        assert title
        assert root.get("aria-label") == title
        found[title.partition(" by step")[0]] = root
    return found


def path(svg: ElementTree.Element, name: str) -> list[tuple[float, float]]:
    """The points of a drawing's path."""
    [found] = svg.findall(f"path[@class='{name}']")
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", found.attrib["d"])]


def test_the_page_of_a_fixed_history(golden: Callable[[str, str], None]) -> None:
    """With a jump, a step that is no number, and held-out rows that get worse."""
    entries = history(loss=lambda s: {20: 9.0, 41: math.nan}.get(s, round(1.2 + 1 / s, 4)))
    entries += [{"step": 60, "eval_loss": 1.9}]
    golden("training.html", made(entries, title="python-docs on <gpt-oss>"))


def test_every_curve_is_drawn_where_its_values_are() -> None:
    found = drawings(made(history()))
    assert list(found) == ["Train loss", "Learning rate", "Tokens per second", "GPU memory"]
    loss = found["Train loss"]
    dots, line, looks = (path(loss, name) for name in ("dots", "line", "looks"))
    assert (len(dots), len(line), len(looks), len(loss.findall("path[@class='look']"))) == (60, 60, 6, 6)
    assert (dots[0][0], dots[-1][0]) == (0, 100)
    assert all(later[0] > sooner[0] for sooner, later in pairwise(dots))
    assert dots[0][1] < dots[-1][1], "a loss that fell is lower on the page"
    base = loss.find("line[@class='base']")
    assert base is not None
    assert float(base.attrib["y1"]) < looks[0][1], "the base lies over every look"
    assert "from 2.308 to" in str(loss.findtext("title"))
    assert "the base's is 2.500" in str(loss.findtext("title"))
    rate = path(found["Learning rate"], "line")
    assert min(y for _, y in rate) == rate[4][1], "the highest is where the warm-up ends"
    assert rate[-1][1] == 100
    assert {y for _, y in path(found["Tokens per second"], "line")} == {16.67}, "3,333 of 4,000"


def test_what_was_not_measured_is_left_out() -> None:
    text = made(history(looks=False, memory=0), base_eval=None)
    found = drawings(text)
    assert list(found) == ["Train loss", "Learning rate", "Tokens per second"]
    assert found["Train loss"].find("line[@class='base']") is None
    assert "held" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S)
    assert "GPU memory" not in text
    bare = drawings(made([{"step": s, "loss": 2.0} for s in range(1, 10)]))
    assert list(bare) == ["Train loss"], "a history of before there were more columns"


@pytest.mark.parametrize(("steps", "charts"), [(0, 0), (1, 2), (7, 4)])
def test_a_run_of_hardly_a_step_has_a_page(steps: int, charts: int) -> None:
    text = made(history(steps))
    assert "Fewer than 8 steps" in text
    assert len(drawings(text)) == charts


def test_settings_figures_and_advice_are_on_the_page() -> None:
    text = made(history(loss=lambda _: 2.5))
    row = '<tr><th scope="row">{}</th><td>{}</td></tr>'
    for name, value in (
        ("train.learning_rate", "0.0002"),
        ("train.hosts", "–"),
        ("train.seed", "3407"),
        ("tokens", "603,211"),
        ("eval_loss", "–"),
        ("changed_share", "0.1235"),
        ("versions.torch", "2.13.0"),
    ):
        assert row.format(name, value) in text
    assert "Nothing stands out" in text, "the looks fell"
    assert "<dt>Flat</dt>" in made(history(looks=False, loss=lambda _: 2.5))


def test_a_spike_is_marked_and_does_not_flatten_the_curve() -> None:
    quiet, spiked = history(), history()
    spiked[33]["loss"] = 400.0
    [before, after] = [drawings(made(entries))["Train loss"] for entries in (quiet, spiked)]
    [mark] = after.findall("path[@class='jump']")
    assert mark.findtext("title") == "step 31: 400.000, beyond the scale"
    height = [max(y for _, y in path(svg, "dots")) - path(svg, "dots")[0][1] for svg in (before, after)]
    assert height[1] > 0.6 * height[0]


def test_steps_that_are_no_number_are_shown_as_a_gap() -> None:
    loss = drawings(made(history(loss=lambda s: math.nan if 20 < s <= 30 else 2.0)))["Train loss"]
    [band] = loss.findall("rect")
    assert float(band.attrib["x"]) == pytest.approx(100 * 19.5 / 59, abs=0.01)
    assert float(band.attrib["width"]) == pytest.approx(100 * 10 / 59, abs=0.01)
    [line] = loss.findall("path[@class='line']")
    assert line.attrib["d"].count("M") == 2


anything = st.floats() | st.floats(0, 5) | st.none()
keys = ("loss", "lr", "tokens", "grad_norm", "seconds", "memory")
entry = st.fixed_dictionaries({"step": st.integers(0, 50)}, optional=dict.fromkeys(keys, anything))
look = st.fixed_dictionaries({"step": st.integers(0, 10**6), "eval_loss": anything})


@settings(deadline=None)
@given(st.lists(entry | look, max_size=40), st.none() | st.floats())
def test_no_value_breaks_a_drawing(entries: list[Entry], base: float | None) -> None:
    text = made(entries, base_eval=base)
    for svg in drawings(text).values():
        for part in svg.iter():
            for name in ("d", "x", "y", "x1", "x2", "y1", "y2", "width"):
                drawn = part.get(name, "")
                assert not re.search(r"nan|inf|e[+-]", drawn)
                assert all(0 <= float(n) <= 100.01 for n in re.findall(r"-?\d+(?:\.\d+)?", drawn.replace("h0", "")))
    assert not re.search(r": -?(nan|inf)%", text)


@given(st.floats(-1e15, 1e15), st.floats(0, 1e15), st.booleans(), st.integers(3, 5))
def test_an_axis_holds_its_values_between_a_few_round_ticks(low: float, more: float, snug: bool, count: int) -> None:
    scale = axis(low, low + more, count=count, snug=snug)
    rounding = 1e-9 * max(abs(low), more)
    assert scale.low <= low + rounding
    assert low + more <= scale.high + rounding
    assert 0 <= scale.at(low) <= scale.at(low + more) <= 100
    assert len(scale.ticks) <= count + 3


def test_untrusted_text_stays_text_and_nothing_is_fetched() -> None:
    text = made(history(), title=HOSTILE, settings={HOSTILE: HOSTILE}, figures={"x": {HOSTILE: [HOSTILE]}})
    assert not re.search(r"<(script|img|iframe|link|object|base|form|a)\b", text)
    assert not re.search(r"<[^>]*\s(on\w+|src|href|action)=", text)
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style
    assert not re.search(r"url\(|@import|//", style[1])
    assert text.count("&lt;script&gt;document.title") == 6  # the title twice; of each table a name and a value


MEASURE = """<!doctype html><iframe style="border:0;width:{width}px;height:900px"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument, over = [];
  for (const part of page.querySelectorAll("body *:not(svg *)")) {{
    const box = part.getBoundingClientRect(), room = part.closest("section, .tiles div, body").getBoundingClientRect();
    const wide = !part.closest(".chart") && part.clientWidth && part.scrollWidth > part.clientWidth + 1;
    if (box.right > room.right + 0.5 || box.left < room.left - 0.5 || wide)
      over.push(part.tagName + "." + part.className + " " + part.textContent.slice(0, 40));
  }}
  document.title = JSON.stringify([page.querySelectorAll("svg").length, page.documentElement.scrollWidth, over]);
}};
frame.srcdoc = {text};
</script>"""


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed (apt-get install chromium)")
def test_a_real_browser_shows_it_without_errors_and_nothing_overflows(tmp_path: Path) -> None:
    import html
    import json

    def chromium(name: str, text: str, *more: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        start = [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"),
            *("--hide-scrollbars", "--window-size=1180,2000"),
            *(f"--user-data-dir={tmp_path / 'profile'}", *more, (tmp_path / name).as_uri()),
        ]
        return subprocess.run(start, capture_output=True, text=True, timeout=120, check=True)

    entries = history(loss=lambda s: {20: 9.0, 41: math.nan}.get(s, 1.2 + 1 / s))
    text = made(entries, title="very_long_name_" * 12, figures=FIGURES | {"hardware": "x" * 300})
    broken = chromium("broken.html", text.replace("<main>", '<main><svg><path d="M0 nan"/></svg>'), "--dump-dom")
    assert "CONSOLE" in broken.stderr, "an error in a drawing is heard of"
    assert "CONSOLE" not in chromium("training.html", text, "--dump-dom").stderr

    def overflowing(text: str, width: int) -> list[Any]:
        quoted = json.dumps(text).replace("</", "<\\/")
        dom = chromium("measure.html", MEASURE.format(width=width, text=quoted), "--dump-dom").stdout
        title = re.search(r"<title>(.*?)</title>", dom)
        assert title, "the page was measured"
        return list(json.loads(html.unescape(title[1])))

    wide = text.replace("<main>", '<main><p style="width: 1300px">wide</p>')
    assert [bool(overflowing(wide, width)[2]) for width in (390, 1180)] == [True, True], "what overflows is found"
    assert overflowing(text, 390) == [4, 390, []]
    assert overflowing(text, 1180) == [4, 1180, []]

    picture = tmp_path / "page.png"
    chromium("training.html", text, f"--screenshot={picture}")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 50_000, "the page is drawn, not blank"
