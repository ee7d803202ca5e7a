"""examples/grafana.json: every metric in it is one that we or the installed engine tell, as it is scraped."""

import ast
import importlib.util
import json
import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from serve.counts import LABELS, Counts

ROOT = Path(__file__).parent.parent
DASHBOARD = json.loads((ROOT / "examples" / "grafana.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
NAME = re.compile(r"\b(?:vllm:|gptoss_)[a-z_0-9]+")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def ours():
    """Name and kind of each of our metrics."""
    registry = CollectorRegistry()
    Counts(registry)
    return {metric.name: metric.type for metric in registry.collect()}


def engines():
    """The same of vLLM's: what its metrics' source names, since a registry has them only once an engine runs."""
    spec = importlib.util.find_spec("vllm")
    found = {}
    sources = [path.read_text() for path in (Path(spec.origin).parent / "v1" / "metrics").glob("*.py")]
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            names = [k.value.value for k in node.keywords if k.arg == "name" and isinstance(k.value, ast.Constant)] \
                if isinstance(node, ast.Call) else []  # fmt: skip
            kind = re.match(r"_?(counter|gauge|histogram)_cls", getattr(getattr(node, "func", None), "attr", ""))
            if names and kind and str(names[0]).startswith("vllm:"):
                found[names[0].removesuffix("_total") if kind[1] == "counter" else names[0]] = kind[1]
    return found


def scraped(metrics):
    return {name + suffix for name, kind in metrics.items() for suffix in SUFFIXES[kind]}


def test_every_metric_of_the_dashboard_is_told():
    engine = engines()
    assert len(engine) > 30
    used = {name for expression in EXPRESSIONS for name in NAME.findall(expression)}
    used |= {name for v in DASHBOARD["templating"]["list"] for name in NAME.findall(json.dumps(v))}
    assert used - scraped(ours()) - scraped(engine) == set()
    assert {name for name in ours() if not any(u.startswith(name) for u in used)} == set(), "ours is shown whole"


def test_panels_ask_for_labels_that_there_are():
    labels = {*LABELS, "status", "kind", "le"}
    for expression in EXPRESSIONS:
        for grouped in re.findall(r"(?:by|on) \(([^)]*)\)", expression):
            assert set(grouped.split(", ")) <= labels, expression
        assert expression.count("(") == expression.count(")"), expression
        assert expression.count("{") == expression.count("}"), expression


def test_panels_do_not_lie_on_each_other_and_have_an_id_each():
    places = [p["gridPos"] for p in DASHBOARD["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert len({p["id"] for p in DASHBOARD["panels"]}) == len(places)


def test_readme_says_what_each_of_our_metrics_is():
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("<!-- metrics -->\n")[2].partition("<!-- /metrics -->")[0]
    told = set(re.findall(r"^\| `([a-z_]+)`", table, re.M))
    assert told == {name + ("_total" if kind == "counter" else "") for name, kind in ours().items()}
