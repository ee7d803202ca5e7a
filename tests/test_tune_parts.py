"""A dataset in parts: the same bytes whoever makes them and how many there are, and what is kept of a stopped run."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune import artefact, recipe
from tune.data import dataset, executors, joining, page, pairs, parts, spill, twins, workers
from tune.data.block import Code, Fields, Prose
from tune.data.page import Page
from tune.errors import UserError

ROOT = Path(__file__).parent.parent
WORDS = [a + b for a in "bdfgklmnprst" for b in ("alor", "emip", "onut", "irask", "usten", "atov")]


def said(seed, count=30):
    dice = random.Random(seed)
    return " ".join(dice.choice(WORDS) for _ in range(count)) + "."


def a_page(n):
    """Every fifth says what the one before says; every seventh has another's title and its own text."""
    name, told = f"lib.m{n}.make", n - (n % 5 == 4)
    return Page(
        id=f"p{n}",
        title=f"lib.m{n}" if n % 7 else "Handling errors",
        module=f"lib.m{n}",
        blocks=(
            Prose(headings=(f"lib.m{n}" if n % 7 else "Handling errors",), text=said(told, 60)),
            Code(headings=(f"lib.m{n}", name), language="python", text=f"{name}(a, b={n % 9}, *, c=None)"),
            Prose(headings=(f"lib.m{n}", name), text=said(told + 5000, 40)),
            Fields(headings=(f"lib.m{n}", name), pairs=(("Returns", said(n + 9000, 9)),)),
        ),
        source="s",
        licence="l",
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    """40 pages, six a part, and rows of somebody."""
    monkeypatch.setattr(parts, "MOST", 6)
    folder = tmp_path / "work" / "pages"
    folder.mkdir(parents=True)
    page.write(folder / "pages.jsonl", map(a_page, range(40)))
    artefact.finish(folder, "pages")
    rows = [{"prompt": f"Q {n % 50}: {said(n % 50, 9)}?", "completion": said(n + 300)} for n in range(60)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"x": 1}]))
    (tmp_path / "recipe.toml").write_text(
        '[evaluate]\nmodules = []\n[dataset]\nrows = ["own.jsonl"]\neval_share = 0.3\nmax_tokens = 250\n'
    )
    return recipe.read(tmp_path / "recipe.toml")


def made(project, **how):
    shutil.rmtree(project.work / "dataset", ignore_errors=True)
    found = dataset.build(project, **how)
    return found.digest, found.figures, {name: (project.work / "dataset" / name).read_bytes() for name in found.files}


def test_the_bytes_are_the_same_for_any_number_of_parts_and_workers(project, monkeypatch):
    first = made(project)
    assert {"near-duplicate", "asked with another answer", "over max_tokens"} <= set(first[1]["dropped"])
    assert first[1]["alike"]["groups"] > 1
    assert made(project, run=partial(workers.run, workers=2)) == first
    for most in (1, 1000):
        monkeypatch.setattr(parts, "MOST", most)
        assert made(project) == first
    assert not (project.work / dataset.ROOM).exists()


def test_the_order_in_which_parts_are_made_is_nothing_and_the_order_of_joining_is(project, monkeypatch):
    first = made(project)

    def backwards(folder, digest, numbers, report):
        workers.run(folder, digest, numbers[::-1], report)

    assert made(project, run=backwards) == first
    right = parts.finished
    monkeypatch.setattr(parts, "finished", lambda *told: [*reversed(right(*told))])  # the fault planted
    assert made(project)[0] != first[0]


def test_a_stopped_run_is_gone_on_with_and_another_recipe_begins_anew(project):
    first, lines = made(project), []

    def stopped(folder, digest, numbers, report):
        workers.run(folder, digest, numbers[:3], report)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(project, run=stopped)
    room = project.work / dataset.ROOM
    assert sorted(path.name for path in room.iterdir()) == ["000000", "000001", "000002", "plan.json"]
    assert not (project.work / "dataset").exists()
    with (room / "000001" / "rows.jsonl").open("r+b") as f:
        f.truncate(100)  # as after a power cut
    assert made(project, report=lines.append) == first
    assert "dataset: 2 of 7 parts are there already" in lines
    with pytest.raises(KeyboardInterrupt):
        made(project, run=stopped)
    other = project.model_copy(update={"dataset": project.dataset.model_copy(update={"max_tokens": 300})})
    lines.clear()
    made(other, report=lines.append)
    assert not any("already" in line for line in lines)


def test_parts_that_nobody_made_are_an_error_that_says_so(project):
    with pytest.raises(UserError, match="does not hold every part\n  why: 7 of 7 are missing"):
        made(project, run=lambda *_: None)


def test_a_worker_that_dies_is_told_of_and_what_is_finished_stays(project):
    """Killed as the system kills what takes too much memory, once the first part is there."""
    first = made(project)

    def killing(line):
        if "pages are examples" in line:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(UserError, match="one of 2 processes that make the dataset died") as e:
        made(project, report=killing, run=partial(workers.run, workers=2))
    assert e.value.exit_code == 2
    assert multiprocessing.active_children() == []
    assert not (project.work / "dataset").exists()
    assert (project.work / dataset.ROOM / "plan.json").is_file()
    assert made(project) == first


def test_an_executor_without_datatrove_and_options_that_it_does_not_have(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "datatrove.executor.local", None)
    with pytest.raises(UserError, match="needs datatrove"):
        executors.of("local", 2, [])


def test_datatrove_makes_the_same_parts_and_a_failed_task_is_told_of(project):
    pytest.importorskip("datatrove")
    first = made(project)
    assert made(project, run=executors.of("local", 3, ["workers=2"])) == first
    assert made(project, run=executors.of("local", 2, ["workers=1"])) == first
    with pytest.raises(UserError, match="no option partition"):
        executors.of("local", 2, ["partition=x"])
    with pytest.raises(UserError, match="needs time, partition"):
        executors.of("slurm", 2, [])
    lost = project.work / "pages" / "pages.jsonl"
    run = executors.of("local", 2, ["workers=1"])

    def without(folder, digest, numbers, report):
        lost.rename(lost.with_suffix(".away"))
        try:
            run(folder, digest, numbers, report)
        finally:
            lost.with_suffix(".away").rename(lost)

    with pytest.raises(UserError, match="datatrove's local executor did not end well"):
        made(project, run=without)


SBATCH = """#!/bin/bash
# As sbatch --wait does: each task of the array, then its exit status; the job's number on the last line.
script="${@: -1}"
for given in "$@"; do case "$given" in --export=ALL,*) export "${given#--export=ALL,}";; esac; done
grep -q '^#SBATCH --wait$' "$script" || exit 9
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for task in $(seq 0 "$last"); do
  SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=here bash "$script" >> "$0.log" 2>&1 || exit 1
done
echo "Submitted batch job 7"
"""


def test_slurm_makes_the_same_parts(project, tmp_path, monkeypatch):
    """sbatch, srun and scontrol stand in: the script that they are given is run by bash."""
    pytest.importorskip("datatrove")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (
        ("sbatch", SBATCH),
        ("srun", '#!/bin/bash\nwhile [[ "$1" == -* ]]; do [[ "$1" == -n ]] && shift; shift; done\nexec "$@"\n'),
        ("scontrol", "#!/bin/bash\necho here\n"),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    first = made(project)
    assert made(project, run=executors.of("slurm", 2, ["time=1:00:00", "partition=cpu"])) == first


def stretch(start, count):
    """Some of them are alike by just so much, or by just not so much."""
    return [*range(start, start + count)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(0, 12), max_size=14) | st.builds(stretch, st.integers(20, 30), st.integers(0, 30)),
        max_size=40,
    ),
    st.integers(1, 9),
    st.integers(1, 60),
    st.integers(2, 8),
)
def test_twins_are_those_of_all_pairs_however_texts_and_index_are_cut(tmp_path_factory, texts, block, entries, crowd):
    said = [" ".join(f"w{n}" for n in text) for text in texts]
    cut = [twins.shingled(said[i : i + block]) for i in range(0, len(said), block)]
    sets = [frozenset(one.tolist()) for part in cut for one in part.each()]
    slow = twins_of_all_pairs(sets)
    with pytest.MonkeyPatch.context() as patch:
        cuts = ((twins, "ENTRIES", entries), (twins, "STRETCH", block), (twins, "BUCKETS", 64), (pairs, "CROWD", crowd))
        for module, name, value in (*cuts, (pairs, "TOGETHER", entries), (spill, "WAITING", 30 * entries)):
            patch.setattr(module, name, value)
        found = twins.find([lambda one=one: one for one in cut], tmp_path_factory.mktemp("index"))
    assert told(found) == slow


def twins_of_all_pairs(sets):
    slow = {}
    for i in range(len(sets)):
        first = next((j for j in range(i) if j not in slow and twins.alike(sets[i], sets[j])), None)
        if first is not None:
            slow[i] = first
    return slow


def told(found):
    return dict(zip(*map(np.ndarray.tolist, found), strict=True))


@pytest.mark.parametrize("last", ["w", ""])
def test_many_that_are_nearly_the_same_are_found_as_all_pairs_are(last):
    """More than a crowd that differ in one word of seventy, some of them twice, and as many that differ in every third
    of theirs, which are not alike."""
    base = [*map("w{}".format, range(70))]
    texts = [" ".join([*base, f"{last}{n % 60}"]) for n in range(90)]
    texts += [" ".join(f"{word}{n}" if i % 12 == 0 else word for i, word in enumerate(base)) for n in range(90)]
    sets = [frozenset(one.tolist()) for one in twins.shingled(texts).each()]
    found = told(twins.find([lambda: twins.shingled(texts)]))
    assert found == twins_of_all_pairs(sets)
    assert 89 <= len(found) < 100


FRAME = "What is the default value of the parameter `key` of `m{0}.f{0}` when it is called by `g{0}`? m{0}"


def halves(n):
    return [f"{said(n, 20)} {said(n + 1, 20)} {said(n + 2, 20)}", FRAME.format(n)]


def families(n):
    return [f"{said(-1, 60)} {n}", said(-2 - n % 3, 40)]


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """What searching takes, for so many blocks of 256 texts: comparisons, and bytes in memory at most."""
    small = {"BUCKETS": 2**19, "ENTRIES": 2**9, "STRETCH": 2**8}
    for module, name, value in (*((twins, *one) for one in small.items()), (spill, "WAITING", 2**14)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(pairs, "TOGETHER", 2**12)
    count, alike, enough = [0], pairs.Shingles.alike, pairs.enough

    def counted(self, some):
        count[0] += len(some)
        return alike(self, some)

    def one(both, *sizes):
        count[0] += isinstance(both, int)
        return enough(both, *sizes)

    monkeypatch.setattr(pairs.Shingles, "alike", counted)
    monkeypatch.setattr(pairs, "enough", one)

    def search(made, blocks):
        texts = [[text for k in range(128) for text in made(128 * n + k)] for n in range(blocks)]
        count[0] = 0
        tracemalloc.start()
        found = twins.find([partial(twins.shingled, some) for some in texts], tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return len(found.texts), count[0], peak

    return search


def test_memory_of_the_search_for_twins_does_not_grow_with_texts(searched):
    """Texts that hang together through others, though no two are alike: clusters of them would be all of them."""
    searched(halves, 1)  # imports
    (_, few, before), (none, many, after) = (searched(halves, blocks) for blocks in (4, 16))
    assert none == 0
    assert many < 5 * few
    assert many < 16 * 256
    assert (after - before) / (12 * 256) < 20


def test_comparisons_grow_as_texts_do_where_most_are_nearly_the_same(searched):
    """Each is compared with those who stay alone."""
    (twins_of_few, few, _), (twins_of_many, many, _) = (searched(families, blocks) for blocks in (2, 8))
    assert (twins_of_few, twins_of_many) == (2 * 256 - 4, 8 * 256 - 4)
    assert many < 5 * few
    assert many < 2 * 8 * 256


def test_joining_holds_no_rows(project, monkeypatch):
    """Eight times the rows take less than 100 bytes of memory each; an example and its row have 2,000."""
    held, rows = [], []
    monkeypatch.setattr(joining, "TOGETHER", 2**10)
    right = joining.judged

    def watched(made, scratch):
        tracemalloc.start()
        found = right(made, scratch)
        joining.write(scratch, found, joining.split(found, 0.3, scratch))
        held.append(tracemalloc.get_traced_memory()[1])
        rows.append(len(found.fate))
        tracemalloc.stop()
        return found

    monkeypatch.setattr(joining, "judged", watched)
    for count in (500, 4000):
        told = [{"prompt": f"Q {n}: {said(n, 9)}?", "completion": said(n + 10**6, 12)} for n in range(count)]
        (project.folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
        monkeypatch.setattr("tune.data.making.ROWS", 256)
        made(project)
    assert (held[1] - held[0]) / (rows[1] - rows[0]) < 100
