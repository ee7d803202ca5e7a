"""`tune show`: the page says what the dataset holds, whatever it holds, and changes nothing."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import shown
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from tune import artefact, cli, recipe
from tune.data.collect import collect
from tune.errors import UserError
from tune.harmony import IGNORE
from tune.recipe import Recipe
from tune.views import dataset_page, lost, plain, sample, survey
from tune.views.show import show

FIVE = "one two three four five six"


def page_of(made: Recipe) -> str:
    return (made.work / "dataset.html").read_text(encoding="utf-8")


def words_of(made: Recipe) -> str:
    return " ".join(shown.Read(page_of(made)).text.split())


def data_of(made: Recipe) -> Any:
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page_of(made), re.S)
    return json.loads(data)


def run(made: Recipe, *command: str) -> Result:
    return CliRunner().invoke(cli.main, [*command, "--recipe", str(made.folder / "recipe.toml")])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Pages of the standard library, and the dataset of them by the command itself."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "recipe.toml").write_text(
        '[collect]\nmodules = ["heapq", "bisect", "colorsys", "shlex"]\ntopics = false\n[evaluate]\nmodules = ["ast"]\n'
        "[dataset]\neval_share = 0.3\n"
    )
    made = recipe.read(folder / "recipe.toml")
    collect(made)
    (made.work / "questions.jsonl").write_text('{"name": "n", "count": 1}\n{"id": "q", "prompt": "What is a node?"}\n')
    return made


def test_the_page_of_a_dataset_that_was_kept_is_kept_too_and_no_other_is(real: Recipe) -> None:
    def status() -> dict[str, str]:
        return {row["what"]: row["figures"] for row in json.loads(run(real, "status", "--json").stdout)["rows"]}

    assert run(real, "dataset").exit_code == 0
    page, first = real.work / "dataset.html", page_of(real)
    page.write_text(first + "<!-- mine -->")
    assert run(real, "dataset").exit_code == 0
    assert (page_of(real), status()["dataset page"]) == (first + "<!-- mine -->", "")
    other = first.replace('name="made-of" content="', 'name="made-of" content="0')
    for text in (other, "", "<html>"):  # of another dataset, broken off, somebody's own
        page.write_text(text)
        assert status()["dataset page"] == "stale: of another dataset; tune show"
        assert run(real, "dataset").exit_code == 0
        assert page_of(real) == first
    page.unlink()
    assert "dataset page" not in status()
    assert run(real, "dataset").exit_code == 0
    assert page_of(real) == first


def test_the_dataset_command_writes_the_page_and_names_it_and_the_figures_are_the_datasets(real: Recipe) -> None:
    done = run(real, "dataset")
    assert done.exit_code == 0, done.output
    assert f"{real.work / 'dataset.html'} shows what it teaches" in done.stderr
    assert done.stdout.endswith("next: tune train\n")
    again = run(real, "dataset", "--json")
    made = artefact.read(real.work / "dataset", "dataset", remake="")
    assert json.loads(again.stdout) == json.loads(made.model_dump_json()), "standard output is the manifest alone"
    artefact.verify(real.work / "dataset", made, remake="", anew=True)
    assert artefact.strays(real.work / "dataset", made) == []

    found, figures = show(real), made.figures
    assert found.rows == figures["rows"]
    assert found.kinds == dict(sorted(figures["kinds"].items(), key=lambda one: (-one[1], one[0])))
    assert found.dropped == dict(sorted(figures["dropped"].items(), key=lambda one: (-one[1], one[0])))
    assert found.pages - found.pages_without_rows == sum(figures["pages"].values())
    assert found.stale == {}
    assert 0.3 < found.reached < 1
    rows, words = figures["rows"], words_of(real)
    for said in (
        f"Rows to train on {rows['train']:,} and {rows['eval']:,} to evaluate on",
        f"Tokens to train on {figures['tokens']['train']:,} {figures['learned_tokens']['train']:,} of them learned",
        f"dataset {made.digest[:12]} · pages {made.inputs['pages'][:12]}",
        *(f"{kind} {100 * n / sum(rows.values()):.1f}" for kind, n in figures["kinds"].items()),
    ):
        assert said in words
    data, before = data_of(real), page_of(real)
    assert len(data["rows"]) == sum(rows.values()), "up to 2,000 rows are all there"
    assert sum(row["learned"] for row in data["rows"]) == sum(figures["learned_tokens"].values())
    show(real)
    assert page_of(real) == before, "the same again"


def test_a_row_has_its_whole_conversation_and_which_of_its_tokens_are_learned(real: Recipe) -> None:
    assert run(real, "dataset").exit_code == 0
    lines = (real.work / "dataset/examples.jsonl").read_text().splitlines()
    labels = {}
    for side in ("train", "eval"):
        for line in (real.work / f"dataset/{side}.jsonl").read_text().splitlines():
            row = json.loads(line)
            labels[row["id"]] = (side, row["labels"])
    data = data_of(real)
    assert [row["id"] for row in data["rows"]] == [json.loads(line)["id"] for line in lines]
    for row, line in zip(data["rows"], map(json.loads, lines), strict=True):
        *asked, answer = line["messages"]
        said = [("system", ""), *((m["role"], m["content"]) for m in asked)]
        said += [("analysis", answer["thinking"]), ("answer", answer["content"])]
        assert [(who, text) for who, text, *_ in row["turns"]] == said
        side, learned = labels[row["id"]]
        assert row["side"] == side
        assert sum(tokens for *_, tokens, _ in row["turns"]) == len(learned) == row["tokens"]
        assert [own > 0 for *_, own in row["turns"]] == [who in {"analysis", "answer"} for who, *_ in row["turns"]]
        assert sum(own for *_, own in row["turns"]) == len(learned) - learned.count(IGNORE) == row["learned"]
        assert data["pages"][row["page"]][0] == line["page"]
        heading = line["provenance"].split(", ")[-2]
        section, _ = data["sections"][row["section"]]
        if line["kind"] == "section":
            assert section[:40] in row["turns"][-1][1] or row["turns"][-1][1][:40] in section, heading


def test_a_page_without_a_row_is_named_and_what_is_reached_is_counted(tmp_path: Path) -> None:
    made = shown.project(tmp_path)
    pages = [shown.a_page("a", FIVE, "seven eight nine ten eleven"), shown.a_page("lost", "nobody asks about this one")]
    shown.write(made, pages, [shown.example("r", "a", answer=f"It says: {FIVE}.")])
    found = show(made)
    quoted, rest = len(FIVE.replace(" ", "")), len("seveneightnineteneleven")
    whole = quoted + rest + 2 * len("§0") + len("nobodyasksaboutthisone") + len("§0") + len("a") + len("lost")
    assert found.reached == pytest.approx(quoted / whole)
    assert (found.pages, found.pages_without_rows) == (2, 1)
    words = words_of(made)
    assert "1 page without a row" in words
    assert re.search(r"What is on it is not learned lost +28 characters", words)
    assert "of them without a row" in found.text()


def test_the_section_that_is_shown_is_that_of_the_provenance_and_of_several_the_one_that_is_quoted(
    tmp_path: Path,
) -> None:
    made = shown.project(tmp_path)
    page = shown.a_page("a", "Apples grow here and there.", "Pears grow here and there.", "Plums grow here and there.")
    twice = page.model_copy(update={"blocks": (*page.blocks, page.blocks[0].model_copy(update={"text": FIVE}))})
    asked = [shown.example("r1", "a", heading="§1"), shown.example("r2", "a", answer=FIVE), shown.example("r0", "a")]
    shown.write(made, [twice], [*asked, shown.example("none", "a", heading="?", answer="Plums grow here and there")])
    show(made)
    data = data_of(made)
    said = [data["sections"][row["section"]][0].rpartition("\n")[2] for row in data["rows"]]
    assert said == ["Pears grow here and there.", FIVE, "Apples grow here and there.", "Plums grow here and there."]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("os.path.join(a, *b)", 6),
        ("the end.", 3),
        ("`x` | **y**", 2),
        ("文書を読む。", 6),
        ("über 3.5 ß_1", 3),
        ("日本のPython 3", 5),
    ],
)
def test_words_are_what_a_reader_takes_for_one(text: str, count: int) -> None:
    assert len(survey.words(text)) == count


@given(st.lists(st.text("ab c.", min_size=1).filter(str.strip), min_size=1, max_size=4), st.data())
def test_a_quoted_page_is_reached_whole_and_an_unlike_one_not_at_all(texts: list[str], data: st.DataObject) -> None:
    page = shown.a_page("a", *texts)
    said = survey.words(page.text)
    size = sum(map(len, said))
    about = survey.About("a", size, 0)
    some = set(data.draw(st.lists(st.sampled_from(list(survey._runs(said)) or [("x",)]), max_size=3)))
    survey._reach(about, page, some)
    part = about.reached
    assert 0 <= part <= size
    survey._reach(about, page, some)
    assert about.reached == part, "what was counted is not counted again"
    survey._reach(about, page, set(survey._runs(said)))
    assert about.reached == (size if len(said) >= survey.RUN else 0)
    unlike = survey.About("a", size, 0)
    survey._reach(unlike, page, {("z",) * survey.RUN})
    assert unlike.reached == 0


def many(pages: int, rows: int) -> list[dict[str, Any]]:
    """Rows of three kinds, nine in ten of the first, a tenth of the pages' of the second, two of the third at all."""
    out = []
    for p in range(pages):
        for r in range(rows):
            kind = shown.KINDS[1] if r % 10 == 9 else shown.KINDS[2] if p < 2 and r == 0 else shown.KINDS[0]
            out.append(shown.example(f"{p}#{r}", f"p{p}", kind=kind, effort=("low", "medium", "high")[r % 3]))
    return out


def test_of_many_rows_a_sample_is_shown_that_has_every_kind_and_every_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "SHOWN", 300)
    made = shown.project(tmp_path)
    pages = [shown.a_page(f"p{n}", "Text.") for n in range(60)]
    shown.write(made, pages, many(60, 30), held=["p3", "p4"], raw=True)
    found = show(made)
    assert found.rows_shown == 300
    assert "300 of 1,800 rows: of every kind its share" in words_of(made)
    assert "300 of 1,800 rows to read" in found.text()
    data, first = data_of(made), page_of(made)
    by_kind = Counter(row["kind"] for row in data["rows"])
    assert by_kind["open-parameter"] == 2, "a rare kind is there whole"
    assert by_kind["signature"] == pytest.approx(300 / 10, abs=5)
    by_page = Counter(data["pages"][row["page"]][0] for row in data["rows"] if row["kind"] == "section")
    assert len(by_page) == 60
    assert max(by_page.values()) - min(by_page.values()) <= 1, "no page is preferred"
    assert {row["side"] for row in data["rows"]} == {"train", "eval"}
    ids = [row["id"] for row in data["rows"]]
    assert ids == [each["id"] for each in many(60, 30) if each["id"] in set(ids)], "in the order of the dataset"
    assert f"Rows to train on {58 * 30:,} and 60 to evaluate on" in words_of(made), "figures are of all rows"
    show(made)
    assert page_of(made) == first


def test_the_page_stays_small_however_long_rows_are(tmp_path: Path) -> None:
    made = shown.project(tmp_path)
    text = "文書を読む。" * 1500
    rows = [shown.example(f"r{n}", "p", question=text, answer=text, analysis=text) for n in range(600)]
    shown.write(made, [shown.a_page("p", text, text + "。")], rows, raw=True)
    found = show(made)
    assert found.bytes < 6_000_000
    assert found.rows_shown == 600
    row = data_of(made)["rows"][7]
    [question] = [turn for turn in row["turns"] if turn[0] == "user"]
    assert question[1] == text[: len(question[1])]
    assert len(question[1]) in sample.CUTS
    assert question[2] == len(text), "and says how long it was"


def test_what_was_left_out_is_shown_with_samples_where_the_dataset_has_them(tmp_path: Path) -> None:
    made = shown.project(tmp_path)
    line = {"id": "x#1", "kind": "section", "page": "x", "reason": "short", "detail": "2 characters", "question": "Q?"}
    samples = [{**line, "id": f"x#{n}", "answer": f"A{n}"} for n in range(9)]
    samples += [{"reason": "new <b>reason</b>", "id": "y"}, "{no json", "[]", {"id": "no reason"}]
    failures = [{"id": f"http://h/{n}", "reason": "HTTP 404"} for n in range(7)] + [{"id": "z", "reason": "no text"}]
    about = {"dropped": {"short": 9, "over max_tokens": 4, "of another kind": 90}, "failures": failures}
    shown.write(made, [shown.a_page("p", "T.")], [shown.example("r", "p")], samples=samples, **about)
    found = show(made)
    assert found.dropped == {
        "of another kind": 90, "short": 9, "over max_tokens": 4, lost.UNREADABLE: 3, "new <b>reason</b>": 1
    }  # fmt: skip
    assert found.failures == 8
    assert "left out: of another kind 90, short 9, pages that failed 8" in found.text()
    words = words_of(made)
    assert "Left out 17 examples, 94.4 % of those made of these kinds" in words
    assert "HTTP 404 7" in words
    assert "8 pages could not be had" in words
    assert "2 pages are held out" in words
    assert len(re.findall(r"section, x, x#\d detail 2 characters question Q\? answer A\d", words)) == lost.SAMPLES
    assert "<b>" not in page_of(made).partition("What was left out")[2].partition("Rows to read")[0]
    shown.write(made, [shown.a_page("p", "T.")], [shown.example("r", "p")], dropped={"short": 2})
    (made.work / "dataset/dropped.jsonl").unlink()
    shown.write(made, [shown.a_page("p", "T.")], [shown.example("r", "p")], dropped={"short": 2})
    show(made)
    assert "This dataset names no examples of what was left out" in words_of(made)
    assert "No page failed" in words_of(made)


def test_of_very_many_reasons_the_largest_are_told_apart(tmp_path: Path) -> None:
    lines = [{"id": f"{n}-{k}", "reason": f"reason {n}"} for n in range(200) for k in range(1 + (n < 3))]
    (tmp_path / "failures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = lost.failures(tmp_path / "failures.jsonl")
    assert [group.total for group in found[:4]] == [2, 2, 2, 1]
    assert len(found) == lost.REASONS + 1
    assert sum(group.total for group in found) == 203
    assert found[-1].reason == "170 other reasons"


def test_a_stale_dataset_is_shown_and_said_to_be_stale(tmp_path: Path) -> None:
    made = shown.project(tmp_path)
    shown.write(made, [shown.a_page("p", "T.")], [shown.example("r", "p")])
    assert show(made).stale == {}
    assert "Stale" not in words_of(made)
    changed = shown.project(tmp_path, "max_tokens = 99")
    assert show(changed).stale == {"tune dataset": "max_tokens was 512, is 99"}
    assert "Stale max_tokens was 512, is 99. To make it anew: tune dataset" in words_of(changed)
    done = run(changed, "show")
    assert done.stdout.startswith("stale: max_tokens was 512, is 99; tune dataset\n")
    assert json.loads(run(changed, "show", "--json").stdout)["stale"]
    source = made.work / "pages"
    (source / "pages.jsonl").write_text(shown.a_page("q", "Other.").model_dump_json() + "\n")
    artefact.finish(source, "pages", settings=artefact.read(source, "pages", remake="").settings)
    assert show(made).stale == {"tune dataset": "made of another pages"}
    assert "not there now" in words_of(made), "a row of a page that is no longer there"


def test_what_cannot_be_shown_is_an_error_with_the_next_command(tmp_path: Path) -> None:
    made = shown.project(tmp_path)
    done = run(made, "show")
    assert done.exit_code == 2
    assert done.stderr.endswith("  fix: tune dataset\n")
    shown.write(made, [shown.a_page("p", "T.")], [shown.example("r", "p"), shown.example("s", "p")])
    folder = made.work / "dataset"
    whole = (folder / "train.jsonl").read_text()

    def refused(text: str) -> UserError:
        (folder / "train.jsonl").write_text(text)
        found = artefact.read(folder, "dataset", remake="")
        artefact.finish(folder, "dataset", inputs=found.inputs, settings=found.settings)
        with pytest.raises(UserError) as e:
            show(made)
        assert not (made.work / "dataset.html").exists()
        return e.value

    assert "examples.jsonl:1 has no row" in refused("".join(reversed(whole.splitlines(keepends=True)))).what
    assert "examples.jsonl:2 has no row" in refused(whole.splitlines(keepends=True)[0]).what
    assert "train.jsonl:2 cannot be read" in refused(whole.splitlines(keepends=True)[0] + "{}\n").what
    (folder / "train.jsonl").write_text(whole + " ")
    with pytest.raises(UserError, match=r"is not the file that dataset\.json describes"):
        show(made)
    (made.work / "pages/pages.json").unlink()
    with pytest.raises(UserError, match="holds no finished pages") as e:
        show(made)
    assert e.value.fix == "tune collect"


@given(st.dictionaries(st.integers(1, 20_000), st.integers(1, 10**6), min_size=1, max_size=30), st.integers(1, 20_000))
def test_every_row_is_in_the_histogram_and_max_tokens_is_where_it_lies(lengths: dict[int, int], limit: int) -> None:
    none = Counter[str]()
    drawn = dataset_page._histogram(survey.Survey(none, none, none, none, none, {"k": Counter(lengths)}, {}, ()), limit)
    counts, wide = [], drawn.x[-1][0] / limit
    for left, width, height, words in drawn.bars:
        first, last, count = (int(n.replace(",", "")) for n in re.findall(r"[\d,]+", words))
        assert count == sum(n for length, n in lengths.items() if first <= length <= last)
        assert left == pytest.approx(first * wide)
        assert left + width <= 100 + 1e-9
        assert 0 < height <= 100
        counts.append(count)
    assert sum(counts) == sum(lengths.values())
    assert 0 < drawn.limit <= 100


anything = st.text(st.characters(exclude_categories=()))


@settings(max_examples=300)
@given(anything)
def test_text_is_made_plain(text: str) -> None:
    seen = plain.plain(text)
    seen.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]", seen)
    assert plain.plain(seen) == seen
    ordinary = text.isprintable() and not re.search("[\u202a-\u202e]", text)
    assert not ordinary or seen == text
    assert "\n" not in plain.one_line(text, 9)
    assert len(plain.cut(text, 5)[0]) <= 5 * len("\\ud800")


@settings(max_examples=300)
@given(st.dictionaries(anything, st.lists(anything | st.sampled_from(["</script>", "<!--", "]]>", "\u2028"]))))
def test_json_cannot_end_its_script(value: dict[str, list[str]]) -> None:
    text = plain.script_json(value)
    text.encode()
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == json.loads(json.dumps(value))
