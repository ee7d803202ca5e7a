"""The page in a real browser, on a desk and on a phone: every figure is on screen, nothing is scrolled sideways."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from evaluation import Some, built, reply, several

from evalsuite import report
from evalsuite.judging.comparison import OUTCOMES
from evalsuite.views import html as view

MEASURE = """<!doctype html><iframe style="border:0;width:{width}px;height:900px"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument, lost = [], shown = {{}};
  const told = (why, part) => lost.push(why + ": " + part.textContent.trim().slice(0, 40));
  for (const part of page.querySelectorAll("tbody th:not(:empty), td:not(:empty):not(tfoot td), .chip")) {{
    const inside = page.createRange();
    inside.selectNodeContents(part);
    const box = inside.getBoundingClientRect(), room = part.closest("section").getBoundingClientRect();
    if (!box.width) told("hidden", part);
    if (box.right > room.right + 0.5 || box.left < room.left - 0.5) told("cut off", part);
    shown[part.tagName] = (shown[part.tagName] || 0) + 1;
  }}
  for (const part of page.querySelectorAll("main, section, .scroll, table"))
    if (part.scrollWidth > part.clientWidth + 1) told("scrolls", part);
  document.title = JSON.stringify([frame.contentWindow.innerWidth, page.scrollingElement.scrollWidth, shown, lost]);
}};
frame.srcdoc = {text};
</script>"""


def widest() -> report.Report:
    """Three efforts, kinds with long names, a required gain, a load test, and every outcome that there is."""
    some = (
        Some(60, 50, 6, 1, "module-of-function", guess=0.25),
        Some(60, 20, 15, 0, "open-signature-default-value", guess=0.25),
        Some(60, 30, 2, 20, "raises-exception", split="taught"),
    )
    set_, told = several(*some, efforts=("low", "medium", "high"))
    for i, outcome in enumerate(OUTCOMES):  # one of each, and one that was never asked
        told[2 * i] = reply(set_.questions[i], "base", "low", outcome=outcome)
    times = {"completion_tokens": 50, "first_token_s": 0.04, "first_answer_s": 1.5, "total_s": 2.0}
    row = {"metric": "time to first answer token, p95", "unit": "tokens/s", "base": 4120.0, "tuned": 4300.0}
    rows = (report.SpeedRow(**row, ratio=1.04, interval=(0.98, 1.11), higher_is_better=True),)
    load = report.Throughput(load="2 requests/s", rows=rows)
    return built(
        set_,
        [r.model_copy(update=times) for r in told[:-1]],
        efforts=("low", "medium", "high"),
        require_gain=True,
        throughput=load,
        provenance={"name_without_a_space_" * 4: "value_" * 60},
    )


def measured(folder: Path, text: str, width: int) -> tuple[int, int, dict[str, int], list[str]]:
    """Widths of window and page in px, how many cells and chips were looked at, and what cannot be seen of them."""
    quoted = json.dumps(text).replace("</", "<\\/")
    (folder / "measure.html").write_text(MEASURE.format(width=width, text=quoted), encoding="utf-8")
    start = [
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars", "--window-size=1280,1000", "--dump-dom"),
        *(f"--user-data-dir={folder / 'profile'}", (folder / "measure.html").as_uri()),
    ]
    dom = subprocess.run(start, capture_output=True, text=True, timeout=120, check=True).stdout
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title, "the page was measured"
    inner, page, shown, lost = json.loads(html.unescape(title[1]))
    return inner, page, shown, lost


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed (apt-get install chromium)")
@pytest.mark.parametrize("width", [390, 900, 1024, 1180])
def test_every_figure_bound_and_chip_is_on_screen(tmp_path, width):
    r = widest()
    assert all(any(c.base.outcomes[o] + c.tuned.outcomes[o] for c in r.comparisons) for o in OUTCOMES)
    text = view.render(r)
    wide = text.replace("<main>", '<main><section><table><tr><td><p style="width: 1300px">wide</p></table></section>')
    inner, page, _, lost = measured(tmp_path, wide, width)
    assert page > inner == width, "what overflows is found"
    assert "cut off: wide" in lost

    inner, page, shown, lost = measured(tmp_path, text, width)
    assert lost == []
    assert page <= inner == width
    chips = text.count('class="chip')
    assert shown["SPAN"] == chips == 3 * 3, "a chip for each of three checks at each of three efforts"
    assert shown["TD"] > 100
