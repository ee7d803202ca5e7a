"""The page in a real browser, on a desk and on a phone: every figure is on screen, nothing is scrolled sideways."""

from pathlib import Path

import chromium
import pytest
from evaluation import Some, built, reply, several

from evalsuite import report
from evalsuite.judging.comparison import OUTCOMES
from evalsuite.replies.answers import Reply
from evalsuite.views import html as view

MEASURE = """<!doctype html><iframe style="border:0;width:WIDTHpx;height:900px"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, lost = [], shown = {};
  const told = (why, part) => lost.push(why + ": " + part.textContent.trim().slice(0, 40));
  const cells = "tbody th:not(:empty), td:not(:empty):not(tfoot td), .chip";
  for (const part of page.querySelectorAll(`${cells}, .facts dd, .filter > *, svg text`)) {
    const inside = page.createRange();
    inside.selectNodeContents(part);
    const box = inside.getBoundingClientRect(), room = part.closest("section").getBoundingClientRect();
    if (!box.width) told("hidden", part);
    if (box.right > room.right + 0.5 || box.left < room.left - 0.5) told("cut off", part);
    shown[part.tagName] = (shown[part.tagName] || 0) + 1;
  }
  for (const part of page.querySelectorAll("main, section, .scroll, table"))
    if (part.scrollWidth > part.clientWidth + 1) told("scrolls", part);
  document.title = JSON.stringify([frame.contentWindow.innerWidth, page.scrollingElement.scrollWidth, shown, lost]);
};
frame.srcdoc = PAGE;
</script>"""


def widest() -> report.Report:
    """Three efforts, kinds with long names, a general one that does not count, a required gain, a load test, and every
    outcome that there is."""
    some = (
        Some(60, 50, 6, 1, "module-of-function", guess=0.25),
        Some(60, 20, 15, 0, "open-signature-default-value", guess=0.25),
        Some(60, 30, 2, 20, "raises-exception", split="taught"),
        Some(60, 50, 6, 1, "general-arithmetic", split="general"),
        Some(60, 20, 15, 0, "general-refusal", split="general", guess=0.5),
    )
    set_, told = several(*some, efforts=("low", "medium", "high"))
    for i, outcome in enumerate(OUTCOMES):  # one of each, and one that was never asked
        told[2 * i] = reply(set_.questions[i], "base", "low", outcome=outcome)

    def timed(r: Reply, i: int) -> Reply:
        k = {"low": 1, "medium": 2, "high": 4}[r.effort] * (100 + i % 9) / 100
        times = {"first_token_s": 0.04 * k, "first_answer_s": 1.5 * k, "total_s": 2 * k}
        counts = {"completion_tokens": round(50 * k), "reasoning_tokens": round(40 * k)}
        return r.model_copy(update={**times, **counts, "reasoning": "thinks_without_a_space_" * 20})

    row = {"metric": "time to first answer token, p95", "unit": "tokens/s", "base": 4120.0, "tuned": 4300.0}
    rows = (report.SpeedRow(**row, ratio=1.04, interval=(0.98, 1.11), higher_is_better=True),)
    load = report.Throughput(load="2 requests/s", rows=rows)
    return built(
        set_,
        [timed(r, i) for i, r in enumerate(told[:-1])],
        efforts=("low", "medium", "high"),
        require_gain=True,
        throughput=load,
        provenance={"name_without_a_space_" * 4: "value_" * 60},
    )


def measured(folder: Path, text: str, width: int) -> tuple[int, int, dict[str, int], list[str]]:
    """Widths of window and page in px, how many cells and chips were looked at, and what cannot be seen of them."""
    inner, page, shown, lost = chromium.told(folder, MEASURE.replace("WIDTH", f"{width}"), text)
    return inner, page, shown, lost


@chromium.needed
@pytest.mark.parametrize("width", [390, 900, 1024, 1180, 1280, 1920])
def test_every_figure_bound_and_chip_is_on_screen(tmp_path, width):
    r = widest()
    assert all(any(c.base.outcomes[o] + c.tuned.outcomes[o] for c in r.comparisons) for o in OUTCOMES)
    text = view.render(r)
    wide = text.replace("<main>", '<main><section><table><tr><td><p style="width: 2000px">wide</p></table></section>')
    inner, page, _, lost = measured(tmp_path, wide, width)
    assert page > inner == width, "what overflows is found"
    assert "cut off: wide" in lost

    inner, page, shown, lost = measured(tmp_path, text, width)
    assert lost == []
    assert page <= inner == width
    chips = text.count('class="chip')
    assert shown["SPAN"] == chips == len(r.verdict.checks) == 3 * 4 + 2, "four checks an effort, and steering twice"
    assert shown["TD"] > 100


CONTRAST = """<!doctype html><meta name="color-scheme" content="light dark">
<iframe style="width:WIDTHpx;height:900px;color-scheme:light dark"></iframe><script>
const frame = document.querySelector("iframe");
const light = (rgb) => {
  const linear = (s) => s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = rgb.match(/[\\d.]+/g).map((x) => linear(x / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
frame.onload = () => {
  const page = frame.contentDocument, style = (part) => frame.contentWindow.getComputedStyle(part), faint = [];
  const drawn = ".pareto text, .pareto p, .third small", said = ".failed :is(code, p), .thinks pre, .facts dd";
  const parts = [...page.querySelectorAll(`${drawn}, ${said}, .filter label, .filter select`)];
  for (const part of parts) {
    let behind = part;
    const clear = (node) => style(node).backgroundColor === "rgba(0, 0, 0, 0)";
    while (behind && clear(behind)) behind = behind.parentElement;
    const ink = part instanceof frame.contentWindow.SVGElement ? style(part).fill : style(part).color;
    const two = [light(ink), light(style(behind || page.body).backgroundColor)].sort((a, b) => b - a);
    if ((two[0] + 0.05) / (two[1] + 0.05) < 4.5) faint.push(part.tagName + " " + part.textContent.trim().slice(0, 30));
  }
  const boxes = (svg) => [...svg.querySelectorAll(".halo")].map((label) => label.getBoundingClientRect());
  const hit = (a, b) => a.left < b.right && b.left < a.right && a.top + 3 < b.bottom - 3 && b.top + 3 < a.bottom - 3;
  const clash = (all) => all.flatMap((a, i) => all.slice(i + 1).filter((b) => hit(a, b))).length;
  const clashes = [...page.querySelectorAll(".pareto svg")].map((svg) => clash(boxes(svg)));
  document.title = JSON.stringify([style(page.body).backgroundColor, parts.length, faint, clashes]);
};
frame.srcdoc = PAGE;
</script>"""


@chromium.needed
@pytest.mark.parametrize(
    ("scheme", "paper"), [(1, "rgb(245, 244, 240)"), (0, "rgb(18, 21, 24)")], ids=["light", "dark"]
)
@pytest.mark.parametrize("width", [390, 1180])
def test_every_new_text_can_be_read_in_light_and_in_dark_and_no_label_lies_on_another(tmp_path, scheme, paper, width):
    text = view.render(widest())
    flag = f"--blink-settings=preferredColorScheme={scheme}"
    background, parts, faint, clashes = chromium.told(tmp_path, CONTRAST.replace("WIDTH", f"{width}"), text, flag)
    assert background == paper
    assert parts > 100
    assert faint == []
    assert clashes == [0, 0]
