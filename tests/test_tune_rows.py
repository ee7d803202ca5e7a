"""A dataset with somebody's rows in it: imported and general ones, every filter, what is dropped, what is shown."""

import json
import shutil

import pytest

from tune import artefact, recipe
from tune.artefact import Artefact
from tune.data import dropped, general, mask, page, summary
from tune.data import row as row_file
from tune.data.block import Prose
from tune.data.dataset import build, read
from tune.data.examples import Example
from tune.data.page import Page
from tune.errors import UserError
from tune.harmony import VOCABULARY
from tune.recipe import Dataset

WORDS = [a + b + c for a in "bdfgk" for b in ("a", "e", "o") for c in ("lor", "mip", "nut", "rask", "sten", "tov")]


def prose(n, count=30):
    """Words that no other number has in this order."""
    return " ".join(WORDS[(n * 7 + k * (1 + n % 11) + k * k) % len(WORDS)] for k in range(count))


def chat(n, answer="", thinking=None, question=""):
    turns = [{"role": "user", "content": question or f"Question {n}: {prose(n, 12)}?"}]
    told = {"role": "assistant", "content": answer or f"Answer {n}: {prose(n + 500)}."}
    return {"messages": [*turns, {**told, **({"thinking": thinking} if thinking else {})}]}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def project(tmp_path):
    pages = [
        Page(id=f"p{n}", title=f"T{n}", module=f"m{n}", blocks=(Prose(headings=(f"T{n}",), text=prose(n + 900, 60)),),
             source="s", licence="l")
        for n in range(20)
    ]  # fmt: skip
    folder = tmp_path / "work" / "pages"
    folder.mkdir(parents=True)
    page.write(folder / "pages.jsonl", pages)
    artefact.finish(folder, "pages")
    return tmp_path


def asked(folder, **dataset):
    keys = "\n".join(f"{key} = {json.dumps(value)}" for key, value in dataset.items())
    (folder / "recipe.toml").write_text(f"[evaluate]\nmodules = []\n[dataset]\n{keys}\n")
    return recipe.read(folder / "recipe.toml")


def rows(folder, part):
    return row_file.read(folder / "work" / "dataset" / f"{part}.jsonl", VOCABULARY)


def left_out(folder):
    text = (folder / "work" / "dataset" / dropped.FILE).read_text()
    return [dropped.Dropped.model_validate_json(line) for line in text.splitlines()]


def examples(folder):
    text = (folder / "work" / "dataset" / "examples.jsonl").read_text()
    return [Example.model_validate_json(line) for line in text.splitlines()]


def test_own_rows_stand_beside_those_from_pages_and_are_split_one_by_one(project):
    write(project / "own.jsonl", [chat(n, thinking="Let me see." if n % 2 else None) for n in range(60)])
    said = []
    made = build(asked(project, rows=["own.jsonl"], eval_share=0.25), said.append)
    train, held = rows(project, "train"), rows(project, "eval")
    own = [row for row in train + held if row.page.startswith("rows:own.jsonl:")]
    assert len(own) == 60
    assert made.figures["imported"]["train"] == sum(row.page.startswith("rows:") for row in train)
    assert min(made.figures["imported"]["train"], made.figures["imported"]["eval"]) > 5
    assert made.figures["kinds"]["imported"] == made.figures["checks"]["given"] == 60
    assert made.figures["without_analysis"] == 30
    assert sum(made.figures["pages"].values()) == 20
    assert {row.effort for row in own} == {"low", "medium"}
    assert mask.mask_faults([*train, *held]) == []
    assert "dataset: own.jsonl: 60 rows of chat; 30 of them without analysis, at effort low" in said
    assert set(made.inputs) == {"pages", "rows own.jsonl"}


def test_rows_that_ask_the_same_share_a_side(project):
    write(project / "own.jsonl", [chat(n % 30, answer=prose(n + 700, 40)) for n in range(60)])
    for seed in range(5):
        build(asked(project, rows=["own.jsonl"], eval_share=0.3, seed=seed))
        side = {row.page: part for part in ("train", "eval") for row in rows(project, part)}
        assert len([name for name in side if name.startswith("rows:")]) == 60
        assert all(side[f"rows:own.jsonl:{n + 1}"] == side[f"rows:own.jsonl:{n + 31}"] for n in range(30))


def test_an_own_row_that_asks_what_a_page_is_asked_goes_with_the_page(project):
    build(asked(project, eval_share=0.3))
    questions = {e.messages[0].content: e.page for e in examples(project)}
    write(project / "own.jsonl", [chat(n, question=q.upper()) for n, q in enumerate(questions)])
    for seed in range(5):
        build(asked(project, rows=["own.jsonl"], eval_share=0.3, seed=seed))
        side = {row.page: part for part in ("train", "eval") for row in rows(project, part)}
        assert all(side[f"rows:own.jsonl:{n}"] == side[name] for n, name in enumerate(questions.values(), 1))


def test_changed_rows_make_another_dataset(project):
    write(project / "own.jsonl", [chat(n) for n in range(9)])
    made = build(asked(project, rows=["own.jsonl"]))
    assert build(asked(project, rows=["own.jsonl"])) == made == read(asked(project, rows=["own.jsonl"]))
    write(project / "own.jsonl", [chat(n) for n in range(8)])
    with pytest.raises(UserError, match=r"differs in rows own.jsonl"):
        read(asked(project, rows=["own.jsonl"]))
    assert build(asked(project, rows=["own.jsonl"])).digest != made.digest
    shutil.copy(project / "own.jsonl", project / "more.jsonl")
    (project / "own.jsonl").unlink()
    with pytest.raises(UserError, match="there is no"):
        build(asked(project, rows=["own.jsonl", "more.jsonl"]))
    assert rows(project, "train")  # the old dataset is whole
    with pytest.raises(UserError, match="named more than once"):
        asked(project, rows=["more.jsonl", "./more.jsonl"])


SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4hJ6"
MAIL = "ada.lovelace@analytical.org"
CODE = "def total(items):\n    found = 0\n    for item in items:\n        found += item.size * 3\n    return found"
SAME = CODE.replace("items", "xs").replace("item", "x").replace("found", "n").replace("total", "summed")
DROPPED = [
    ("holds a secret", "GitHub token", chat(1, answer=f"Use {SECRET} for it.")),
    ("holds a secret", "GitHub token", chat(2, thinking=f"The key is {SECRET}.")),
    ("holds personal data", "e-mail address", chat(3, question=f"Who is {MAIL}?")),
    ("code does not parse", "line 1", chat(4, answer="```python\nprint 'hello'\n```")),
    ("contaminated", "code of a held-out question", chat(5, answer=f"So:\n```python\n{SAME}\n```")),
    ("contaminated", "what does the frobnicator do", chat(6, question="What does the frobnicator do?")),
    ("near-duplicate", "rows:own.jsonl:20", chat(20)),
    ("over max_tokens", " tokens", chat(7, answer=prose(7, 900))),
    ("empty", "", chat(8, answer=" \n")),
    ("not a conversation", "own.jsonl:29: not JSON", None),
]


def test_every_dropped_row_is_counted_and_shown_with_what_exactly(project):
    head = {"name": "n", "count": 2}
    asks = [
        {"id": "a", "prompt": "What does the frobnicator do?"},
        {"id": "b", "prompt": "Write it.", "answer": CODE, "code": {"about": "m.total"}},
    ]
    write(project / "work" / "questions.jsonl", [head, *asks])
    lines = [json.dumps(chat(n)) for n in range(1001, 1020)] + [json.dumps(chat(20))]
    lines += [json.dumps(row) if row else "{" for *_, row in DROPPED[:8]] + ["{", json.dumps(DROPPED[8][2])]
    (project / "own.jsonl").write_text("\n".join(lines))
    made = build(asked(project, rows=["own.jsonl"]))
    found = [(row.reason, row) for row in left_out(project)]
    for reason, detail, _ in DROPPED:
        assert any(why == reason and detail in row.detail for why, row in found), reason
    counts = made.figures["dropped"]
    assert counts == {why: sum(w == why for w, _ in found) for why, _ in found}
    assert counts["holds a secret"] == counts["contaminated"] == 2
    assert {row.kind for _, row in found} == {"imported"}
    assert found == sorted(found, key=lambda one: one[0])
    text = (project / "work" / "dataset" / dropped.FILE).read_text()
    assert SECRET not in text
    assert MAIL not in text
    assert dropped.FILE in made.files
    kept = (project / "work" / "dataset" / "examples.jsonl").read_text()
    assert SECRET not in kept
    assert MAIL not in kept
    build(asked(project, rows=["own.jsonl"], personal="keep"))
    assert MAIL in (project / "work" / "dataset" / "examples.jsonl").read_text()
    assert "holds personal data" not in {row.reason for row in left_out(project)}


GERMAN = "Die Antwort auf diese Frage steht im zweiten Absatz der Beschreibung, die man zuerst lesen sollte. `x = 1`"
ENGLISH = "The answer to this question is in the second paragraph of the description, which should be read first."


def test_answers_in_another_language_go_when_languages_are_named(project):
    own = [chat(1, GERMAN), chat(2, ENGLISH), chat(3, "42"), chat(4, f"```\n{GERMAN}\n```")]
    write(project / "own.jsonl", own)
    made = build(asked(project, rows=["own.jsonl"], languages=["en"], kinds=["signature", "section"]))
    gone = {row.id: row.detail for row in left_out(project) if row.reason == "in another language"}
    assert gone["rows:own.jsonl:1"] == "de"
    assert not {f"rows:own.jsonl:{n}" for n in (2, 3, 4)} & set(gone)
    assert made.figures["dropped"]["in another language"] == len(gone)
    assert "in another language" not in build(asked(project, rows=["own.jsonl"])).figures["dropped"]


@pytest.mark.parametrize(("share", "seed"), [(0.1, 0), (0.4, 1)])
def test_general_rows_make_their_share_of_the_train_rows_and_are_never_evaluated_on(project, share, seed):
    write(project / "own.jsonl", [chat(n) for n in range(60)])
    write(project / "talk.jsonl", [chat(n, thinking="Hm.") for n in range(2000, 2200)])
    keys = {"rows": ["own.jsonl"], "general": "talk.jsonl", "general_share": share, "seed": seed}
    made = build(asked(project, **keys))
    train = rows(project, "train")
    mixed = [row.page for row in train if row.page.startswith("general:talk.jsonl:")]
    assert len(mixed) == len(set(mixed)) == made.figures["general"]["rows"]
    assert len(mixed) == pytest.approx(share * len(train), abs=0.5)
    assert not any(row.page.startswith("general:") for row in rows(project, "eval"))
    assert made.figures["general"]["eval"] == 0
    assert made.figures["rows"]["train"] == len(train)
    numbers = [int(name.rpartition(":")[2]) for name in mixed]
    assert numbers == sorted(numbers)
    assert max(numbers) > 100 > min(numbers)  # of the whole file
    shutil.rmtree(project / "work" / "dataset")
    assert build(asked(project, **keys)).digest == made.digest
    build(asked(project, **{**keys, "seed": seed + 1}))
    assert mixed != [row.page for row in rows(project, "train") if row.page.startswith("general:")]


def test_general_rows_pass_the_same_filters_and_repeat_no_question(project):
    write(project / "own.jsonl", [chat(n) for n in range(60)])
    bad = [chat(n) for n in range(30)] + [chat(3000), chat(3000), chat(1, question=f"Is {SECRET} a key?"), {"x": 1}]
    write(project / "talk.jsonl", [*bad, *(chat(n) for n in range(3001, 3006))])
    said = []
    made = build(asked(project, rows=["own.jsonl"], general="talk.jsonl", general_share=0.5), said.append)
    assert made.figures["general"]["rows"] == 6
    assert any("dataset: 6 general rows to train on: talk.jsonl has no more that pass, of " in line for line in said)
    gone = [row for row in left_out(project) if row.kind == "general"]
    assert {row.reason for row in gone} == {"near-duplicate", "holds a secret", "not a conversation"}
    assert made.figures["dropped"]["near-duplicate"] == 31


def test_what_general_rows_are_from_is_known_before_anything_is_made(project):
    with pytest.raises(UserError, match=r"'talk.jsonl' is no file"):
        build(asked(project, general="talk.jsonl"))
    with pytest.raises(UserError, match=r"needs dataset\.general_revision") as e:
        build(asked(project, general="owner/talk", general_revision="main"))
    assert "huggingface.co/datasets/owner/talk/commits/main" in e.value.fix


def test_a_hub_data_set_is_read_at_its_commit_and_no_further_than_needed(project, monkeypatch):
    """The Hub's own server is out of reach here: its rows come from `datasets`, its name and commit are looked at."""
    import datasets

    asked_for, read = [], []

    def talk():
        for n in range(4000, 5000):
            read.append(n)
            yield chat(n)

    def load(name, **options):
        asked_for.append((name, options))
        return datasets.IterableDataset.from_generator(talk)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr("tune.data.rowfile.SHUFFLED", 50)
    commit = "0123456789abcdef0123456789abcdef01234567"
    made = build(asked(project, general="owner/talk", general_revision=commit, general_share=0.3))
    assert asked_for == [("owner/talk", {"revision": commit, "split": "train", "streaming": True})]
    assert made.figures["general"]["rows"] > 3
    assert len(read) < 200
    assert made.settings["general_revision"] == commit


@pytest.mark.parametrize(("share", "others"), [(0.1, 900), (0.5, 7), (0.01, 10), (0.9, 1)])
def test_so_many_rows_are_the_share(share, others):
    n = general.wanted(share, others)
    assert abs(n - share * (n + others)) <= 0.5


def test_the_terminal_shows_a_table_what_was_dropped_and_some_rows(project):
    evil = chat(1, answer="\x1b[2Jgone \u202egnp.exe " + prose(1))
    write(project / "own.jsonl", [evil, {"no": 1}, *(chat(n, thinking=prose(n)) for n in range(2, 40))])
    write(project / "talk.jsonl", [chat(n) for n in range(2000, 2100)])
    r = asked(project, rows=["own.jsonl"], general="talk.jsonl")
    made = build(r)
    for columns in (40, 80, 200):
        shown = summary.lines(made, r.work / "dataset", columns)
        assert max(map(len, shown)) < columns
        text = "\n".join(shown)
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "\\x1b[2Jgone \\u202egnp.exe" in text
    total = next(line.split() for line in shown if line.startswith("all "))
    assert total[1] == str(sum(made.figures["rows"].values()))
    assert sum(int(n) for n in total[2:5]) == int(total[1])
    assert int(total[5].replace(",", "")) == sum(made.figures["tokens"].values())
    assert int(total[6].replace(",", "")) == sum(made.figures["learned_tokens"].values())
    assert "dropped: 1 not a conversation; the first of each reason in dropped.jsonl" in text
    assert sum(line.startswith("  question ") for line in shown) == summary.SAMPLES
    assert "rows:own.jsonl:1 (imported, low, given)" in text
    assert "  analysis (none)" in text
    assert any(line.startswith("general: ") for line in shown)
    old = Artefact(kind="dataset", files={}, figures={"rows": {"train": 1, "eval": 1}})
    assert summary.lines(old, project, 80)


def test_rows_that_seldom_think_are_told(project):
    write(project / "own.jsonl", [chat(n) for n in range(60)])
    r = asked(project, rows=["own.jsonl"])
    assert any("60 of 80 rows have no analysis" in line for line in summary.lines(build(r), r.work / "dataset", 200))


def test_the_new_keys_are_held_to_what_they_mean():
    assert Dataset(languages=["en", "de"]).personal == "drop"
    for wrong in ({"languages": ["English"]}, {"general_share": 1.0}, {"personal": "mask"}, {"rows": [""]}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Dataset(**wrong)
