"""A team's own questions: what is taken, what is refused and in which words, whatever the file holds."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import questions
from evalsuite.balance import graded, name
from evalsuite.own import file
from evalsuite.own.take import LONGEST, checked, listed, take
from evalsuite.questions import Question
from tune import recipe
from tune.errors import UserError
from tune.recipe import Recipe

RULE = "End with one line: ANSWER: <value>"
CHOICE = "Which is it?\nA) one\nB) two"
PORT = {"prompt": "Which port?", "answer": "8080", "grader": "literal"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LINE = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)


def project(folder: Path, evaluate: str = "") -> Recipe:
    (folder / "recipe.toml").write_text(f"[evaluate]\n{evaluate}\n")
    return recipe.read(folder / "recipe.toml")


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(*rows: dict[str, Any]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, [*dict.fromkeys(key for row in rows for key in row)], lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def faults(*rows: dict[str, Any]) -> list[str]:
    found, wrong = checked(file.rows(Path("own.jsonl"), lines(*rows).encode()), module="own", rule=RULE)
    assert len(found) + len(wrong) == len(rows)
    return wrong


def test_a_row_becomes_a_question_with_what_it_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "team.jsonl").write_text(lines(PORT, {**PORT, "prompt": CHOICE, "answer": "b", "grader": "choice"}))
    made = take(project(tmp_path), tmp_path / "team.jsonl")
    first, second = made.questions
    assert first == Question(id=name("own", "Which port?"), kind="own", module="team", prompt="Which port?",
                             answer="8080", grader="literal", developer=RULE)  # fmt: skip
    assert (second.guess, second.answer, first.split) == (0.5, "b", "held-out")
    digest = made.made.pop("sha256")
    assert isinstance(digest, str)
    assert len(digest) == 64
    assert made.made == {"questions_file": "team.jsonl", "questions": 2, "modules": ["team"], "answer_rule": RULE}


def test_every_column_is_kept_and_csv_and_jsonl_say_the_same(tmp_path: Path) -> None:
    row = {**PORT, "kind": "net", "module": "api", "split": "taught", "id": "q-1", "developer": "Be brief.",
           "guess": "0.25"}  # fmt: skip
    other = {**PORT, "prompt": 'Line one,\nand "two"'}
    (tmp_path / "own.csv").write_bytes(
        b"\xef\xbb\xbf" + table({**row, "prompt": "Which?"}, {**row, **other, "id": ""}).encode()
    )
    (tmp_path / "own.jsonl").write_text(
        lines({**row, "prompt": "Which?", "guess": 0.25}, {**row, **other, "id": None}).replace("\n", "\r\n")
    )
    one, two = (take(project(tmp_path), tmp_path / f"own.{ending}").questions for ending in ("csv", "jsonl"))
    assert one == two
    assert one[0].model_dump() == {**row, "prompt": "Which?", "guess": 0.25}
    assert one[1].prompt == 'Line one,\nand "two"'


def test_a_windows_line_end_that_json_spells_out_is_a_line_end(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text(lines({**PORT, "prompt": "One\r\ntwo?"}))
    assert take(project(tmp_path), tmp_path / "own.jsonl").questions[0].prompt == "One\ntwo?"


def test_the_same_file_gives_the_same_digest_and_another_byte_another_one(tmp_path: Path) -> None:
    asked, path = project(tmp_path), tmp_path / "own.jsonl"
    path.write_text(lines(PORT))
    once = take(asked, path)
    assert take(asked, path).digest == once.digest
    questions.write(tmp_path / "q.jsonl", once)
    assert questions.read(tmp_path / "q.jsonl") == once
    path.write_text(lines(PORT) + "\n")
    assert take(asked, path).digest != once.digest


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"grader": "fuzzy"}, 'there is no grader "fuzzy": exact, literal, choice, yesno, signature'),
        ({"split": "test"}, 'there is no split "test": held-out, taught, general'),
        ({"answer": ""}, "has no answer"),
        ({"prompt": " \n"}, "has no prompt"),
        ({"answer": "port 8080"}, 'its grader literal does not take the answer "port 8080" for right'),
        ({"grader": "yesno", "answer": "maybe"}, 'its grader yesno does not take the answer "maybe" for right'),
        ({"grader": "exact", "answer": "a\nb"}, 'its grader exact does not take the answer "a b" for right'),
        ({"grader": "choice"}, "the prompt lists no letters to choose from: A) …, B) …, each on a line"),
        ({"grader": "choice", "prompt": CHOICE, "answer": "C"},
         'the answer "C" is none of the letters A to B in the prompt'),
        ({"grader": "choice", "prompt": CHOICE, "answer": "two"},
         'the answer "two" is none of the letters A to B in the prompt'),
        ({"grader": "choice", "prompt": CHOICE, "answer": "A", "guess": 0.1},
         "guess 0.1 is less than blind guessing gets, 0.5"),
        ({"guess": "often"}, 'guess "often" is no number from 0 to 1'),
        ({"guess": "nan"}, 'guess "nan" is no number from 0 to 1'),
        ({"guess": 2}, 'guess "2" is no number from 0 to 1'),
        ({"prompt": "x" * 20_001}, "prompt has 20001 characters, and at most 20000 are taken"),
        ({"answer": "9" * 201}, "answer has 201 characters, and at most 200 are taken"),
        ({"id": "a\x1b[31m"}, "id holds a line break or a control character"),
        ({"kind": "a\nb"}, "kind holds a line break or a control character"),
        ({"answer": 8080}, "answer is no text: put it between quotation marks"),
        ({"guess": True}, "guess is no text: put it between quotation marks"),
        ({"prompt": "\ud800"}, "prompt holds half of a surrogate pair, which is no text"),
        ({"question": "?"}, 'has an unknown key "question"; there are prompt, answer, grader, kind, module, split, id, '
         "developer, guess, points"),
        ({"grader": "\x1b[31mred"}, r'there is no grader "\x1b[31mred": exact, literal, choice, yesno, signature'),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_with_its_line_and_the_reason(row: dict[str, Any], words: str) -> None:
    assert faults({**PORT, "prompt": "Good?"}, {**PORT, **row}) == [f"line 2: {words}"]


def test_what_stands_there_twice_is_refused(tmp_path: Path) -> None:
    assert faults(PORT, {**PORT, "prompt": "Which  port? "}) == ["line 2: asks what line 1 asks"]
    one = {**PORT, "id": "a"}
    assert faults(one, {**one, "prompt": "Another?"}) == ["line 2: has the id of line 1"]


def test_all_bad_lines_are_listed_at_once_the_first_twenty_and_how_many_more(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(
        table(*({**PORT, "prompt": f"P{i}\nsecond line", "grader": "g" if i else "exact"} for i in range(26)))
    )
    with pytest.raises(UserError) as e:
        take(project(tmp_path), path)
    why = e.value.why.split("\n       ")
    assert e.value.what == f"{path} has 25 bad lines"
    assert why[0] == 'line 4: there is no grader "g": exact, literal, choice, yesno, signature'
    assert why[1].startswith("line 6: ")
    assert why[20:] == ["and 5 more"]
    assert e.value.fix == f"edit {path}, then evalsuite questions take {path}"


@pytest.mark.parametrize(
    ("file_name", "data", "what", "why"),
    [
        ("own.txt", b"x", "is neither CSV nor JSONL by its name", ""),
        ("own.jsonl", b"", "holds no question", ""),
        ("own.csv", b"\xef\xbb\xbf", "holds no question", ""),
        ("own.csv", b"prompt,answer,grader\r\n\r\n", "holds no question", ""),
        ("own.csv", b"prompt,answer,grader\nx,\xff,exact\n", "is not UTF-8", "line 2: invalid start byte"),
        ("own.csv", b"Which port?,8080,literal\n", "does not name the columns", "it lacks prompt, answer, grader"),
        ("own.csv", b"prompt,answer,grader,level\n", "does not name the columns", 'it has an unknown column "level"'),
        ("own.csv", b"prompt,answer,grader,prompt\n", "does not name the columns", "prompt stands there twice"),
        ("own.csv", b'prompt,answer,grader\n"open,1,exact\n', "has 1 bad line", "line 2: is not CSV: "),
        ("own.csv", b"prompt,answer,grader\na,b,exact,c\n", "has 1 bad line",
         "line 2: has 4 cells, and the header 3: a comma outside quotation marks"),
        ("own.jsonl", b"{}\n\n[1]\n{\n", "has 3 bad lines",
         "line 1: has no prompt, answer, grader\n       line 3: is no JSON object\n       line 4: is not JSON: "),
        ("own.jsonl", b"[" * 100_000, "has 1 bad line", "line 1: is not JSON: "),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused(tmp_path: Path, file_name: str, data: bytes, what: str, why: str) -> None:
    (tmp_path / file_name).write_bytes(data)
    with pytest.raises(UserError) as e:
        take(project(tmp_path), tmp_path / file_name)
    assert what in e.value.what
    assert e.value.why.startswith(why)
    for missing in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(UserError, match="there is no file"):
            take(project(tmp_path), missing)


def test_modules_and_number_are_held_against_the_recipe_as_the_gate_will(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(lines({**PORT, "module": "api"}))
    take(project(tmp_path, 'modules = ["api"]\nquestions_file = "own.jsonl"\nquestions = 1'), path)
    for evaluate, words in (
        ('modules = ["ast"]', "held-out questions are about api: not in [evaluate] modules\n"),
        ('modules = ["api", "ast"]', "no held-out question is about ast, in [evaluate] modules"),
        ('questions_file = "own.jsonl"\nquestions = 2', "there are 1 held-out questions, and [evaluate] questions = 2"),
    ):
        with pytest.raises(UserError, match="is not what") as e:
            take(project(tmp_path, evaluate), path)
        assert words in e.value.why + "\n"


def test_letters_are_listed_on_lines_or_as_capitals_in_a_row() -> None:
    assert listed(CHOICE) == 2
    assert listed("Pick: A) one B) two C) three") == 3
    assert listed("a. one\n(b) two\n c: three") == 3
    assert listed("A) one\nC) three") == 1  # a gap
    assert listed("Plan A or B. Call f(A) then g(B) now") == 0


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
       st.sampled_from(["own.csv", "own.jsonl"]))  # fmt: skip
def test_no_bytes_end_in_anything_but_questions_or_words(data: bytes, file_name: str) -> None:
    if file_name == "own.csv":
        data = b"prompt,answer,grader\n" + data
    try:
        found, wrong = checked(file.rows(Path(file_name), data), module="own", rule=RULE)
    except UserError:
        return
    assert all(map(graded, found))
    assert all(line.replace("\n", "").isprintable() for line in wrong)


@given(st.lists(st.fixed_dictionaries({"prompt": TEXT, "answer": LINE, "grader": st.sampled_from(["exact", "literal"])},
                                      optional={"kind": TEXT, "split": TEXT, "guess": TEXT}),
                min_size=1, max_size=5))  # fmt: skip
def test_csv_and_jsonl_of_the_same_rows_say_the_same(rows: list[dict[str, str]]) -> None:
    """But for a lone carriage return, which is a line end to CSV and stays in JSON, and NUL, which JSON spells."""
    rows = [{key: value.replace("\r", " ").replace("\0", " ") for key, value in row.items()} for row in rows]
    read = [
        checked(file.rows(Path(f"own.{ending}"), text.encode()), module="own", rule=RULE)
        for ending, text in (("csv", table(*rows)), ("jsonl", lines(*rows)))
    ]
    assert read[0][0] == read[1][0]
    said = [[fault.partition(": ")[2] for fault in wrong if " asks " not in fault] for _, wrong in read]
    blank = [fault for fault in said[1] if fault == "has no prompt, answer, grader"]
    assert said[0] == [fault for fault in said[1] if fault not in blank]


@given(st.lists(st.tuples(LINE, LINE), min_size=1, max_size=8, unique_by=lambda pair: " ".join(pair[0].split())))
def test_what_is_taken_is_what_was_written(pairs: list[tuple[str, str]]) -> None:
    rows = [{"prompt": prompt, "answer": answer, "grader": "exact"} for prompt, answer in pairs]
    found, wrong = checked(file.rows(Path("own.csv"), table(*rows).encode()), module="own", rule=RULE)
    kept = {q.prompt: q.answer for q in found}
    assert len(kept) + len(wrong) == len(pairs)
    assert all(dict(pairs)[prompt].strip() == answer for prompt, answer in kept.items())
    assert max(map(len, kept), default=0) <= LONGEST["prompt"]


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl"])
def test_a_nul_byte_is_one_error(tmp_path: Path, name: str) -> None:
    whole = table(PORT, {**PORT, "prompt": "Which other?"}) if name == "own.csv" else lines(PORT)
    (tmp_path / name).write_bytes(whole.encode().replace(b"8080", b"80\x0080"))
    with pytest.raises(UserError) as e:
        take(project(tmp_path), tmp_path / name)
    assert e.value.what == f"{tmp_path / name} holds a NUL byte"
    assert e.value.why == f"line {1 + (name == 'own.csv')}: no text has one; the file is cut, binary or UTF-16"
