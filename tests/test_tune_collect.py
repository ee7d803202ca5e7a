import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tune import recipe
from tune.cli import main
from tune.data import page
from tune.data.collect import collect
from tune.data.sources import brightdata, kept
from tune.errors import UserError

DATA = Path(__file__).parent / "data" / "sphinx"


def project(tmp_path, text):
    (tmp_path / "recipe.toml").write_text(text)
    return recipe.read(tmp_path / "recipe.toml")


def stdlib(tmp_path, modules='["heapq"]', held='["colorsys"]', topics="false"):
    return project(tmp_path, f"[collect]\nmodules = {modules}\ntopics = {topics}\n[evaluate]\nmodules = {held}\n")


def test_pages_are_written_and_the_manifest_says_what_they_are(tmp_path):
    r = stdlib(tmp_path, '["heapq", "bisect"]')
    made = collect(r)
    pages = page.read(r.work / "pages" / "pages.jsonl")
    assert [p.module for p in pages] == ["heapq", "bisect"]
    assert made.figures == {
        "pages": 2,
        "failures": 0,
        "failures_by": {},
        "twins": 0,
        "held_out": 1,
        "held_out_by": {"module": 1},
        "characters": sum(len(p.text) for p in pages),
        "code_blocks": sum(b.kind == "code" for p in pages for b in p.blocks),
        "tables": 0,
    }
    assert set(made.files) == {"pages.jsonl", "held_out.jsonl", "failures.jsonl"}


def test_pages_of_held_out_modules_are_kept_apart_for_questions(tmp_path):
    r = stdlib(tmp_path, held='["colorsys", "bisect"]', topics="true")
    made = collect(r)
    kept = page.read(r.work / "pages" / "held_out.jsonl")
    assert [p.module for p in kept] == ["colorsys", "bisect"]
    assert made.figures["held_out"] == 2
    assert not {"colorsys", "bisect"} & {p.module for p in page.read(r.work / "pages" / "pages.jsonl")}


def test_a_held_out_module_that_cannot_be_read_is_named_with_its_key(tmp_path):
    with pytest.raises(UserError, match=r"evaluate\.modules names a module that cannot be read") as e:
        collect(stdlib(tmp_path, held='["astt"]'))
    assert e.value.fix == "edit evaluate.modules in recipe.toml"


def test_a_finished_stage_is_kept_until_the_recipe_changes(tmp_path):
    lines = []
    first = collect(stdlib(tmp_path))
    assert collect(stdlib(tmp_path), lines.append) == first
    assert "there already" in lines[0]
    assert collect(stdlib(tmp_path, '["bisect"]')).digest != first.digest


@pytest.mark.parametrize("lacking", ["page_version", "held_out_pages"])
def test_pages_of_an_older_schema_or_without_those_held_out_are_collected_again(tmp_path, lacking):
    r = stdlib(tmp_path)
    made = collect(r)
    path = r.work / "pages" / "pages.json"
    settings = {name: value for name, value in made.settings.items() if name != lacking}
    path.write_text(made.model_copy(update={"settings": settings}).model_dump_json())
    lines = []
    assert collect(r, lines.append) == made
    assert "there already" not in lines[0]


def test_an_edited_page_file_is_made_again(tmp_path):
    r = stdlib(tmp_path)
    before = collect(r)
    path = r.work / "pages" / "pages.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-20])
    assert collect(r) == before
    assert path.read_text() == whole


def test_the_next_command_is_the_one_that_freezes_the_questions(tmp_path):
    own = '[]\nquestions_file = "own.csv"'
    for held, following in (
        ('["ast"]', "evalsuite questions"),
        (own, "evalsuite questions"),
        ("[]", "tune dataset"),
    ):
        stdlib(tmp_path, held=held)
        said = CliRunner().invoke(main, ["collect", "--recipe", str(tmp_path / "recipe.toml")])
        assert said.output.endswith(f"next: {following}\n")


def test_what_one_source_fetched_is_not_taken_for_another_s(tmp_path, monkeypatch):
    monkeypatch.setenv(brightdata.TOKEN, "sample-token")
    url = "http://127.0.0.1:9/page"  # nothing listens there: only what is kept can answer
    for source, text in (("web", "Are you human?"), ("brightdata", "The page.")):
        kept.keep_html(tmp_path / "work" / "cache" / "pages" / source, url, f"<body><h1>A</h1><p>{text}</p></body>")
    for source, text in (("web", "Are you human?"), ("brightdata", "The page.")):
        r = project(tmp_path, f'[collect]\nsource = "{source}"\nurls = ["{url}"]\nzone = "z"\n')
        collect(r)
        (found,) = page.read(r.work / "pages" / "pages.jsonl")
        assert text in found.text


def test_an_unknown_module_leaves_the_old_pages(tmp_path):
    before = collect(stdlib(tmp_path))
    with pytest.raises(UserError, match="cannot be read"):
        collect(stdlib(tmp_path, '["heapq", "no_such_module"]'))
    assert collect(stdlib(tmp_path)) == before


def test_part_of_a_held_out_module_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"names xml\.etree\.ElementTree, part of a module in evaluate\.modules"):
        collect(stdlib(tmp_path, '["xml.etree.ElementTree"]', held='["xml"]'))


def test_held_out_pages_of_a_folder_never_get_in(tmp_path):
    text = f'[collect]\nsource = "sphinx"\nfolder = "{DATA}"\n[evaluate]\nmodules = ["shelf"]\n'
    r = project(tmp_path, text)
    made = collect(r)
    assert (made.figures["pages"], made.figures["held_out"], made.figures["failures"]) == (1, 2, 1)
    assert made.figures["held_out_by"] == {"module": 2}
    assert [p.id for p in page.read(r.work / "pages" / "pages.jsonl")] == ["sphinx:tutorial.html"]
    assert {p.module for p in page.read(r.work / "pages" / "held_out.jsonl")} == {"shelf"}
    (failure,) = (r.work / "pages" / "failures.jsonl").read_text().splitlines()
    assert json.loads(failure) == {"id": "sphinx:blank.html", "reason": "no text"}


def reference(docs):
    """An API reference as pandas builds it: a file a method, all in one folder, and the module's name in none."""
    docs.mkdir(parents=True)
    for name in ("pandas.DataFrame.head", "pandas.DataFrame.tail", "numpy.ndarray.sum"):
        short = name.rpartition(".")[2]
        (docs / f"{name}.html").write_text(
            f"<body><main><h1>{name}</h1><dl class='py method'><dt class='sig sig-object py' id='{name}'>"
            f"<span class='sig-prename descclassname'>{name.split('.')[1]}.</span>"
            f"<span class='sig-name descname'>{short}</span>(n=5)</dt>"
            f"<dd><p>What {short} gives is said here.</p></dd></dl></main></body>"
        )


def test_pages_are_held_out_by_the_objects_that_they_document_and_counted_by_reason(tmp_path):
    reference(tmp_path / "docs" / "reference" / "api")
    text = '[collect]\nsource = "sphinx"\nfolder = "docs"\n[evaluate]\nmodules = ["pandas"]\n'
    r, said = project(tmp_path, text), []
    made = collect(r, said.append)
    assert [p.module for p in page.read(r.work / "pages" / "pages.jsonl")] == ["reference.api"]
    assert (made.figures["pages"], made.figures["held_out_by"]) == (1, {"objects": 2})
    assert "2 held out (objects 2)" in said[-1]


def test_where_a_folder_lies_is_no_part_of_what_was_collected(tmp_path):
    made = []
    for name in ("here", "elsewhere"):
        reference(tmp_path / name / name)
        (tmp_path / name / name).rename(tmp_path / name / "api")
        (tmp_path / name).rename(tmp_path / f"{name}-docs")
        (tmp_path / f"{name}-project").mkdir()
        text = f'[collect]\nsource = "sphinx"\nfolder = "{tmp_path}/{name}-docs"\n'
        made.append(collect(project(tmp_path / f"{name}-project", text)))
    assert made[0].digest == made[1].digest


def test_a_changed_folder_is_read_again(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.html").write_text("<body><h1>A</h1><p>First words.</p></body>")
    r = project(tmp_path, '[collect]\nsource = "sphinx"\nfolder = "docs"\n')
    first = collect(r)
    assert collect(r).digest == first.digest
    (docs / "a.html").write_text("<body><h1>A</h1><p>Other words.</p></body>")
    assert collect(r).digest != first.digest


def test_no_page_at_all_is_an_error_that_gives_the_reasons(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.html").write_text("<body><nav>menu</nav></body>")
    r = project(tmp_path, '[collect]\nsource = "sphinx"\nfolder = "docs"\n')
    with pytest.raises(UserError, match="the source gave no page") as e:
        collect(r)
    assert "sphinx:a.html: no text" in e.value.why
    assert not (r.work / "pages").exists()


def test_of_many_reasons_three_are_given_and_the_others_counted(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for n in range(5):
        (docs / f"{n}.html").write_text("<body><nav>menu</nav></body>")
    (docs / "json.html").write_text("<body><h1>json.tool</h1><p>Words.</p></body>")
    text = '[collect]\nsource = "folder"\nfolder = "docs"\n[evaluate]\nmodules = ["json"]\n'
    with pytest.raises(UserError, match="the source gave no page") as e:
        collect(project(tmp_path, text))
    assert e.value.why.split("\n       ") == [
        *(f"folder:{n}.html: no text" for n in range(3)),
        "and 2 more failures",
        "pages that document modules in evaluate.modules: 1",
    ]


def test_urls_that_all_fail_are_an_error_and_none_is_half_written(tmp_path):
    r = project(tmp_path, '[collect]\nsource = "web"\nurls = ["gopher://a.example/", "gopher://a.example/"]\n')
    with pytest.raises(UserError, match="gave no page") as e:
        collect(r)
    assert e.value.why.count("gopher://a.example/") == 1
    assert not (r.work / "pages").exists()
