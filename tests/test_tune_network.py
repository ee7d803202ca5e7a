"""tune collect from the network, through the recipe and the command line."""

import json
import threading

import pytest
from click.testing import CliRunner
from stand_ins.internet import TOKEN, serving, unlocking, words

from tune import recipe
from tune.cli import main
from tune.data import page
from tune.data.collect import collect
from tune.data.sources import asking, brightdata, kept
from tune.data.sources.asking import Ledger
from tune.errors import UserError

SIZES = {"a": 1, "b": 2, "c": 3}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Pauses are counted in tests/test_tune_web.py; here nobody waits for them."""
    monkeypatch.setattr(asking, "pause", lambda *_: 0.0)


def project(folder, collected):
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(f"[project]\nname = 'p'\n[collect]\n{collected}\n")
    return recipe.read(folder / "recipe.toml")


def site(told=None):
    """A site of three pages, one of them under two addresses, a dead link and a robot check."""
    told = told if told is not None else {}

    def answer(path, body, times):
        if path in told:
            return told[path]
        if path == "/docs/":
            links = "".join(f"<a href={name}>{name}</a>" for name in ["c", "a", "b", "a2", "gone", "wall"])
            return 200, {}, words("Docs", body=links)
        name = path.removeprefix("/docs/")[:1]
        if name not in SIZES:
            return (200, {}, words("Just a moment...")) if path == "/docs/wall" else (404, {}, words("Not found"))
        rest = "<pre>run()</pre>" * SIZES[name] + "<table><tr><td>k<td>v</table>"
        return 200, {}, words(name, f"The page of {name}.", body=rest)

    return serving(answer)


def written(r):
    return {path.name: path.read_bytes() for path in (r.work / "pages").iterdir()}


def test_a_site_is_collected_by_one_command_with_a_table_at_its_end(tmp_path):
    with site() as (base, asked):
        project(tmp_path, f'source = "site"\nurl = "{base}/docs/"')
        said = CliRunner().invoke(main, ["collect", "--recipe", str(tmp_path / "recipe.toml")])
    assert said.exit_code == 0, said.output
    assert said.stdout == "pages: pages 4, failures 2; next: tune dataset\n"
    rows = dict(line.rsplit("  ", 1) for line in said.stderr.splitlines()[-12:] if "  " in line.strip())
    shown = {name.strip(): number.strip() for name, number in rows.items()}
    assert shown.pop("characters")
    assert shown.pop("bytes received")
    assert shown == {
        "pages": "4",
        "code blocks": "6",
        "tables": "3",
        "twins": "1",
        "failures": "2",
        "HTTP 404": "1",
        "a robot check": "1",
        "requests": str(sum(asked.values())),
    }
    assert "site: 7 URLs by links, 1 deep" in said.stderr


def test_what_stands_at_the_edges_of_a_site_s_pages_is_left_out(tmp_path):
    def answer(path, body, times):
        menu, foot = "<p>Home of all shelves</p>", "<p>Made by nobody</p>"
        return 200, {}, f"<body>{menu}<h1>{path}</h1><p>The page {path} alone.</p>{foot}</body>"

    said = []
    with serving(answer) as (base, _):
        urls = [f"{base}/{n}" for n in range(8)]
        r = project(tmp_path, f'source = "web"\nurls = {json.dumps(urls)}')
        collect(r, said.append)
    pages = page.read(r.work / "pages" / "pages.jsonl")
    assert [[block.text for block in one.blocks] for one in pages] == [[f"The page /{n} alone."] for n in range(8)]
    assert "left out: 16 blocks at the edges of pages that stand on many of them, such as menus" in said


def test_a_second_run_asks_nothing_and_has_the_same_bytes(tmp_path):
    good = {"/docs/gone": (200, {}, words("gone")), "/docs/wall": (200, {}, words("wall"))}
    with site(good) as (base, asked):
        r = project(tmp_path, f'source = "site"\nurl = "{base}/docs/"')
        made = collect(r)
        assert (made.figures["pages"], made.figures["failures"], made.figures["twins"]) == (6, 0, 1)
        before, first = dict(asked), written(r)
        assert set(asked.values()) == {1}
        assert collect(r, ledger=(ledger := Ledger())) == made
        assert (dict(asked), written(r), ledger.requests) == (before, first, 0)
        for path in (r.work / "pages").iterdir():
            path.unlink()
        collect(r)
        assert written(r) == first
        pages = {path: n for path, n in asked.items() if n > before[path]}
        assert set(pages) == {"/robots.txt", "/docs/sitemap.xml", "/sitemap.xml", "/docs/objects.inv"}  # not there


def test_the_bytes_are_the_same_whatever_the_order_of_arrival(tmp_path):
    made = []
    for late in ("/docs/a", "/docs/c"):
        others = threading.Semaphore(0)

        def answer(path, body, times, late=late, others=others):
            if path == late:
                others.acquire(timeout=20)
            else:
                others.release()
            return 200, {}, words(path)

        with serving(answer) as (base, _):
            urls = [f"{base}/docs/{name}" for name in "abc"]
            r = project(tmp_path / late[-1], f"source = 'web'\nurls = {json.dumps(urls)}")
            collect(r)
            made.append(
                {name: data.replace(base.encode(), b"") for name, data in written(r).items() if name != "pages.json"}
            )
    assert made[0] == made[1]


def test_a_run_goes_on_after_its_budget_and_only_the_missing_is_asked_for(tmp_path):
    good = {"/docs/gone": (200, {}, words("gone")), "/docs/wall": (200, {}, words("wall"))}
    with site(good) as (base, asked):
        urls = [f"{base}/docs/{name}" for name in ["a", "b", "c", "gone", "wall"]]
        text = f"source = 'web'\nurls = {json.dumps(urls)}\nmax_requests = "
        made = collect(project(tmp_path, text + "3"))
        assert (made.figures["pages"], made.figures["failures_by"]) == (3, {"not asked": 2})
        last = collect(project(tmp_path, text + "100"))
        assert (last.figures["pages"], last.figures["failures"]) == (5, 0)
        assert set(asked.values()) == {1}
        assert made.settings == last.settings  # what fetching may cost decides nothing


def test_any_source_goes_through_bright_data_and_its_cost_is_told(tmp_path, monkeypatch):
    from brightdata.core.engine import AsyncEngine

    def answer(url, times):
        path = url.removeprefix("https://docs.example.org")
        return (200, {}, words(path)) if path in {"/docs/a", "/docs/b"} else (404, {}, "no")

    monkeypatch.setenv(brightdata.TOKEN, TOKEN)
    with unlocking(answer) as (base, _asked):
        monkeypatch.setattr(AsyncEngine, "BASE_URL", base)
        urls = json.dumps([f"https://docs.example.org/docs/{name}" for name in "abc"])
        rest = f"urls = {urls}\nzone = 'my_zone'\nprice_per_thousand = 500.0"
        made = {}
        for name, how in {"new": "source = 'web'\nthrough = 'brightdata'", "old": "source = 'brightdata'"}.items():
            project(tmp_path / name, f"{how}\n{rest}")
            said = CliRunner().invoke(main, ["collect", "--recipe", str(tmp_path / name / "recipe.toml")])
            assert said.exit_code == 0, said.output
            assert TOKEN not in said.output
            rows = [line.split("  ") for line in said.stderr.splitlines()[-2:]]
            assert [(row[0], row[-1].strip()) for row in rows] == [
                ("requests billed", "2"),
                ("cost, estimated", "$1.00"),
            ]
            made[name] = (tmp_path / name / "work" / "pages" / "pages.jsonl").read_bytes()
        assert made["new"] == made["old"]
        found = page.read(tmp_path / "new" / "work" / "pages" / "pages.jsonl")
        assert [p.id for p in found] == [f"brightdata:https://docs.example.org/docs/{name}" for name in "ab"]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN not in path.read_text()


def test_a_second_run_in_a_folder_is_told_of_the_first(tmp_path):
    there, go = threading.Event(), threading.Event()

    def answer(path, body, times):
        there.set()
        go.wait(20)
        return 200, {}, words(path)

    with serving(answer) as (base, asked):
        r = project(tmp_path, f'source = "web"\nurls = ["{base}/a"]')
        first = threading.Thread(target=collect, args=(r,))
        first.start()
        assert there.wait(20)
        try:
            with pytest.raises(UserError, match="another run"):
                collect(r)
        finally:
            go.set()
            first.join()
        assert (sum(asked.values()), collect(r).figures["pages"]) == (1, 1)


def test_a_full_disk_is_exit_2_and_the_next_run_goes_on(tmp_path):
    with site() as (base, asked):
        r = project(tmp_path, f'source = "web"\nurls = ["{base}/docs/a", "{base}/docs/b"]')
        slot = kept._slot(r.work / "cache" / "pages" / "web", f"{base}/docs/b")
        slot.parent.mkdir(parents=True)
        slot.with_name(slot.name + ".part").symlink_to("/dev/full")
        said = CliRunner().invoke(main, ["collect", "--recipe", str(tmp_path / "recipe.toml")])
        assert said.exit_code == 2
        assert "No space left on device" in said.stderr
        assert "free space there, then tune collect" in said.stderr
        assert not (r.work / "pages").exists()
        assert collect(r).figures["pages"] == 2
        assert asked["/docs/b"] == 2


def test_what_is_for_the_network_makes_no_page_of_this_machine_stale(tmp_path):
    made = collect(project(tmp_path, 'modules = ["heapq"]\ntopics = false'))
    lines = []
    assert collect(project(tmp_path, 'modules = ["heapq"]\ntopics = false\nmax_pages = 5'), lines.append) == made
    assert "there already" in lines[0]
