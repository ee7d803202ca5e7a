"""What changed, searched: typed words, choices and the address filter it, in a file that needs no server."""

import json
import re

import chromium
from evaluation import ARMS, Some, built, reply, several

from evalsuite import report
from evalsuite.views import html

SEARCH = """<!doctype html><iframe style="width:1180px;height:900px"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, out = [];
  const told = () => {
    const flips = [...page.querySelectorAll("details.flip")].filter((node) => node.checkVisibility());
    out.push([page.querySelector("[role=status]").textContent,
              flips.map((node) => node.querySelector("code").textContent),
              [...page.querySelectorAll("details.effort:not([hidden])")].map((node) => node.open)]);
  };
  told();
  for (const [name, value] of STEPS) {
    const field = page.querySelector(`.filter [name=${name}]`);
    field.value = value;
    field.dispatchEvent(new Event("input", {bubbles: true}));
    told();
  }
  const fields = [...page.querySelectorAll(".filter :is(input, select)")];
  document.title = JSON.stringify([out, fields.map((field) => field.labels[0].textContent.trim().split(" ")[0])]);
};
frame.srcdoc = PAGE;
</script>"""


def searchable() -> report.Report:
    """At low q0 and q1 are lost and q130 is gained, at high q2 is lost. One speaks of a zebra, one thinks of it."""
    set_, told = several(Some(70, 60, 2, 0, "value"), Some(70, 60, 0, 1, "raises"))
    high = [reply(q, arm, "high", not (arm == "tuned" and q.id == "q2")) for q in set_.questions for arm in ARMS]
    said = {("q1", "tuned"): {"text": "A Zebra <b>!\nANSWER: no"}, ("q130", "base"): {"reasoning": "Is it a zebra?"}}
    told = [r.model_copy(update=said.get((r.question, r.arm), {})) for r in told]
    return built(set_, told + high, efforts=("low", "high"))


@chromium.needed
def test_typing_and_choosing_filters_what_changed(tmp_path):
    text = html.render(searchable())
    steps = [("find", "zebra"), ("direction", "lost"), ("find", ""), ("direction", ""), ("effort", "high")]
    steps += [("effort", ""), ("kind", "raises"), ("find", "no such word")]
    out, labels = chromium.told(tmp_path, SEARCH.replace("STEPS", json.dumps(steps)), text)
    assert labels == ["Find", "Direction", "Kind", "Effort"]
    counts = [int(status.split(" of ")[0]) for status, _, _ in out]
    assert counts == [4, 2, 1, 3, 4, 1, 4, 1, 0]
    assert out[0] == ["4 of 4 shown, of 4 that changed", ["q0", "q1", "q130"], [True, False]]
    assert out[1][1] == ["q1", "q130"], "of replies and of reasoning"
    assert out[2][1] == ["q1"]
    assert out[3][1] == ["q0", "q1", "q2"], "groups that were closed are opened"
    assert out[4] == out[0], "and closed again"
    assert out[5][1:] == [["q2"], [True]], "no empty group"
    assert out[7][1] == ["q130"]
    assert out[8][1:] == [[], []]


@chromium.needed
def test_the_address_can_hold_a_filter_and_the_file_needs_no_server(tmp_path):
    text = html.render(searchable())

    def hidden(dom: str) -> dict[str, bool]:
        flips = re.findall(r'<details class="flip"([^>]*)>.*?<code>(q\d+)</code>', dom, re.S)
        return {name: "hidden" in attributes for attributes, name in flips}

    assert set(hidden(chromium.dumped(tmp_path, text)).values()) == {False}
    dom = chromium.dumped(tmp_path, text, after="#find=ZEBRA&direction=lost")
    assert hidden(dom) == {"q0": True, "q1": False, "q130": True, "q2": True}
    assert "1 of 4 shown" in dom
    policy = re.search(r"script-src '(sha256-[^']+)'", text)
    assert policy
    other = chromium.dumped(tmp_path, text.replace(policy[1], "sha256-" + "A" * 43 + "="), after="#find=zebra")
    assert set(hidden(other).values()) == {False}, "its digest is what lets the script run"
    assert '<div class="filter" role="search" aria-label="Changed questions" hidden="">' in other
