"""tune pull, against the library's real requests over a real socket."""

import json
import re
import shutil

import checkpoints
import pytest
from hub_client import REPO, fails, files, make, tune
from hub_server import Fault
from hub_socket import running


@pytest.fixture
def hub():
    with running() as made:
        yield made


def serve(hub, folder, name=REPO, *, private=True, **extra):
    """A repository that holds a folder's files; its commit."""
    held = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    repo = hub.repo(name, private=private, **{"README.md": b"# card", **held, **extra})
    return repo.branches["main"]


def pull(commit, *more, name=REPO):
    return ("pull", name, "--revision", commit, "--into", "work/pulled", *more)


@pytest.fixture
def commit(hub, tmp_path):
    make(tmp_path / "made")
    return serve(hub, tmp_path / "made")


def nothing_half(tmp_path):
    assert not (tmp_path / "work/pulled").exists()


def test_a_dropped_connection_is_gone_on_from_where_it_broke(hub, tmp_path):
    make(tmp_path / "made", vocab_size=201_088)
    commit = serve(hub, tmp_path / "made")
    hub.faults = [Fault("GET /lfs/", cut=12_000_000, large=True)]
    code, _, said = tune(hub, tmp_path, *pull(commit))
    assert code == 0, said
    assert {part for asked, part, _ in hub.asked if "GET /lfs/" in asked} == {"", f"bytes={10 * 2**20}-"}
    assert files(tmp_path / "work/pulled") == files(tmp_path / "made")
    assert {sent for asked, _, sent in hub.asked if "/lfs/" in asked} == {""}  # no token to another host


def test_a_file_that_is_whole_is_not_fetched_again(hub, tmp_path, commit):
    hub.faults = [Fault("GET /lfs/", status=403, times=99)]
    assert "has not the right" in fails(hub, tmp_path, *pull(commit))
    nothing_half(tmp_path)
    (part,) = (tmp_path / "work").iterdir()
    whole = [p.name for p in part.iterdir() if p.is_file()]
    assert "checkpoint.json" in whole
    hub.faults, hub.asked = [], []
    code, _, said = tune(hub, tmp_path, *pull(commit))
    assert code == 0, said
    assert [name for name in whole if hub.count(f"GET .*/{name}$")] == []
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["pulled"]


def test_a_file_that_was_corrupted_on_the_way_never_gets_its_place(hub, tmp_path, commit):
    hub.faults = [Fault("GET /lfs/", spoil=lambda b: b[:-1] + b"?")]
    said = fails(hub, tmp_path, *pull(commit))
    assert "did not arrive as the Hub has it" in said
    nothing_half(tmp_path)
    sent = hub.count("^GET /lfs/")
    code, _, said = tune(hub, tmp_path, *pull(commit))
    assert code == 0, said
    assert hub.count("^GET /lfs/") == sent + 1  # that one alone
    assert files(tmp_path / "work/pulled") == files(tmp_path / "made")


@pytest.mark.parametrize(("pattern", "name"), [("GET .*/config.json$", "config.json"), ("GET .*/checkpoint.json$", "")])
def test_a_small_file_is_proven_too(hub, tmp_path, commit, pattern, name):
    hub.faults = [Fault(pattern, spoil=lambda b: b.replace(b"2", b"3"))]
    said = fails(hub, tmp_path, *pull(commit))
    assert (f"{name} of {REPO} did not arrive" if name else "arrived damaged") in said
    nothing_half(tmp_path)


def test_what_is_there_already_is_proven_and_nothing_else_is_overwritten(hub, tmp_path, commit):
    assert tune(hub, tmp_path, *pull(commit))[0] == 0
    sent = hub.count("^GET .*(resolve|lfs)/")
    code, out, said = tune(hub, tmp_path, *pull(commit, "--json"))
    assert (code, hub.count("^GET .*(resolve|lfs)/")) == (0, sent), said
    told = json.loads(out)
    assert (told["kind"], told["commit"], told["format"], told["left_out"]) == (
        "checkpoint", commit, "merged", [".gitattributes", "README.md"],
    )  # fmt: skip
    mine = tmp_path / "work/pulled/notes.txt"
    mine.write_text("mine")
    assert "work/pulled is taken" in fails(hub, tmp_path, *pull(commit))
    mine.unlink()
    (tmp_path / "work/pulled/config.json").write_text("mine")
    assert "work/pulled is taken" in fails(hub, tmp_path, *pull(commit))
    assert (tmp_path / "work/pulled/config.json").read_text() == "mine"


def test_strays_of_the_repository_stay_there(hub, tmp_path):
    make(tmp_path / "made")
    commit = serve(hub, tmp_path / "made", **{"modeling.py": b"evil", "model-00002.safetensors": b"evil"})
    code, _, said = tune(hub, tmp_path, *pull(commit))
    assert code == 0, said
    assert (
        "left out, since it is no part of it: .gitattributes, README.md, model-00002.safetensors, modeling.py" in said
    )
    assert files(tmp_path / "work/pulled") == files(tmp_path / "made")


def test_a_manifest_that_is_not_of_what_lies_there_is_refused(hub, tmp_path):
    make(tmp_path / "made")
    commit = serve(hub, tmp_path / "made", **{"config.json": b"{}"})
    assert "is not the file that checkpoint.json describes" in fails(hub, tmp_path, *pull(commit))
    path = tmp_path / "made/checkpoint.json"
    text = path.read_text()
    for name in ("../../outside", "/etc/passwd", ".cache/x", "a//b"):
        path.write_text(text.replace('"config.json"', json.dumps(name)))
        commit = serve(hub, tmp_path / "made", **{name: b"x"})
        assert "is no file in it" in fails(hub, tmp_path, *pull(commit))
    path.write_text(text.replace('"config.json"', '"lost.json"'))
    assert f"{REPO} lacks lost.json" in fails(hub, tmp_path, *pull(serve(hub, tmp_path / "made")))
    path.write_text("{}")
    assert "is no manifest" in fails(hub, tmp_path, *pull(serve(hub, tmp_path / "made")))
    nothing_half(tmp_path)


def test_a_model_without_a_manifest_has_to_be_a_whole_gpt_oss(hub, tmp_path):
    checkpoints.fill(tmp_path / "model", "mxfp4")
    others = {"original/config.json": b"{}", "original/model.safetensors": b"x", "metal/model.bin": b"x"}
    commit = serve(hub, tmp_path / "model", "openai/gpt-oss-20b", private=False, **others)
    code, out, said = tune(hub, tmp_path, *pull(commit, name="openai/gpt-oss-20b"), token="")
    assert code == 0, said
    assert "a GPT-OSS of 2 layers, 2 experts, experts in MXFP4" in out
    assert f'[base]\nmodel = "openai/gpt-oss-20b"\nrevision = "{commit}"' in out
    assert files(tmp_path / "work/pulled") == files(tmp_path / "model")
    shutil.rmtree(tmp_path / "work/pulled")
    checkpoints.fill(tmp_path / "model", "mxfp4")
    (tmp_path / "model/config.json").write_text(json.dumps(checkpoints.CONFIG))
    commit = serve(hub, tmp_path / "model", "openai/gpt-oss-20b")
    assert "is no whole GPT-OSS" in fails(hub, tmp_path, *pull(commit, name="openai/gpt-oss-20b"))
    nothing_half(tmp_path)
    commit = serve(hub, tmp_path / "model", "me/bins", **{"model.safetensors": b""})
    hub.repos["model", "me/bins"].commits[commit].pop("model.safetensors")
    assert "holds no model that this reads" in fails(hub, tmp_path, *pull(commit, name="me/bins"))


def test_the_disk_is_looked_at_first(hub, tmp_path, commit):
    def huge(body):
        return re.sub(rb'("lfs": {"oid": "\w+", "size": )', rb"\g<1>99999999999", body)

    hub.faults = [Fault("GET /api/models/.*/tree/", spoil=huge, times=9)]
    said = fails(hub, tmp_path, *pull(commit))
    assert "not enough disk" in said
    assert hub.count("/lfs/") == 0
    nothing_half(tmp_path)


@pytest.mark.parametrize(
    ("change", "token", "says"),
    [
        (lambda _: None, "", "it saw no token"),
        (lambda hub: hub.repos.clear(), "hf_NeverToBeSeen0123456789", "there is no such model"),
        (lambda hub: setattr(hub.repos["model", REPO], "gated", True), "hf_NeverToBeSeen0123456789", "lets in whom"),
        (lambda _: None, "hf_unknown00000", "the Hub does not know the token"),
        (lambda hub: hub.repos.update({("dataset", REPO): hub.repos.pop(("model", REPO))}),
         "hf_NeverToBeSeen0123456789", f"{REPO} is a dataset, not a model"),
        (lambda hub: hub.faults.append(Fault("GET", status=502, times=99)), "hf_NeverToBeSeen0123456789", "is busy"),
        (lambda hub: hub.repos["model", REPO].commits.clear(), "hf_NeverToBeSeen0123456789", "no such revision"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_do(hub, tmp_path, commit, change, token, says):
    change(hub)
    assert says in fails(hub, tmp_path, *pull(commit), token=token)
    nothing_half(tmp_path)


def test_without_a_network_it_says_so(hub, tmp_path, commit):
    assert "HF_HUB_OFFLINE" in fails(hub, tmp_path, *pull(commit), HF_HUB_OFFLINE="1")
    assert "cannot be reached" in fails(hub, tmp_path, *pull(commit), HF_ENDPOINT="http://127.0.0.1:9")
