"""tune push, against the library's real requests over a real socket."""

import json
import re

import pytest
from hub_client import PLAIN, READER, REPO, TOKEN, commit_of, fails, files, make, tune
from hub_server import Fault
from hub_socket import running

from tune import checkpoint
from tune.errors import UserError
from tune.hub import connection


@pytest.fixture
def hub():
    with running() as made:
        yield made


def push(*more):
    return ("push", "work/merged", "--to", REPO, *more)


def test_the_commands_are_the_library_s_as_installed(tmp_path, hub):
    make(tmp_path / "work/merged")
    code, out, said = tune(hub, tmp_path, *push(), own=True)
    assert code == 0, said
    code, _, said = tune(hub, tmp_path, "pull", REPO, "--revision", commit_of(out), own=True)
    assert code == 0, said
    assert files(tmp_path / "work/pulled") == files(tmp_path / "work/merged")


def test_a_full_disk_and_a_broken_transfer_are_told(tmp_path):
    for error, says in (
        (OSError(28, "No space left on device"), "x: the disk is full"),
        (RuntimeError("odd hf_Secret00 https://u:p@h/x?sig=1"), "x: the transfer broke off"),
    ):
        with pytest.raises(UserError, match=says) as told, connection.told("x", "tune pull x"):
            raise error
        assert "tune pull x" in told.value.fix
        assert not {"Secret", "u:p", "sig"} & {*re.findall(r"Secret|u:p|sig", str(told.value))}


def test_a_checkpoint_becomes_one_commit_of_a_private_repository_and_comes_back_the_same(tmp_path, hub):
    made = make(tmp_path / "work/merged")
    code, out, said = tune(hub, tmp_path, *push())
    assert code == 0, said
    repo = hub.repos["model", REPO]
    assert repo.private
    assert hub.count("POST .*/commit/") == 1
    oid = repo.branches["main"]
    assert commit_of(out) == oid
    assert f"{made.served_name} is {REPO} at {oid} (private)" in out
    assert f"{hub.url}/{REPO}/tree/{oid}" in out
    assert f'model = "{REPO}"\nrevision = "{oid}"' in out
    assert repo.commits[oid].keys() == {*files(tmp_path / "work/merged"), "README.md", ".gitattributes"}
    assert checkpoint.verify(made.folder)  # nothing was left in it

    code, out, said = tune(hub, tmp_path, "pull", REPO, "--revision", "main", "--into", "elsewhere/here")
    assert code == 0, said
    assert f"main of {REPO} is commit {oid}" in said
    assert "next: serve run elsewhere/here" in out
    assert files(tmp_path / "elsewhere/here") == files(tmp_path / "work/merged")
    assert [p.name for p in (tmp_path / "elsewhere").iterdir()] == ["here"]

    commits = len(repo.commits)
    code, out, said = tune(hub, tmp_path, *push("--json"))  # once more: nothing to do
    assert (code, json.loads(out)["commit"], json.loads(out)["wrote"], len(repo.commits)) == (0, oid, [], commits)


def test_a_dry_run_shows_the_card_and_sends_nothing(tmp_path, hub):
    make(tmp_path / "work/merged")
    code, out, said = tune(hub, tmp_path, *push("--dry-run", "--public"))
    assert code == 0, said
    assert out.startswith('---\nlicense: "apache-2.0"\nbase_model: "openai/gpt-oss-20b"\n')
    assert "would write 7 files" in out
    assert "public, a new repository" in out
    assert hub.repos == {}
    assert hub.count("^(POST|PUT)") == 0


def test_a_dry_run_without_a_token_shows_the_card_and_says_what_was_not_looked_at(tmp_path, hub):
    make(tmp_path / "work/merged")
    code, out, said = tune(hub, tmp_path, *push("--dry-run"), token="")
    assert code == 0, said
    assert "would write 7 files" in out
    assert "without a token what the Hub has is not looked at" in said
    assert hub.asked == []
    assert "there is no token to write" in fails(hub, tmp_path, *push(), token="")


def test_a_checkpoint_that_was_changed_or_holds_a_stray_is_not_pushed(tmp_path, hub):
    made = make(tmp_path / "work/merged")
    (made.folder / "extra.py").write_text("")
    assert "does not name: extra.py" in fails(hub, tmp_path, *push())
    (made.folder / "extra.py").unlink()
    (made.folder / "config.json").write_text("{}")
    assert "config.json is not the file" in fails(hub, tmp_path, *push())
    assert hub.asked == []


def test_other_contents_are_overwritten_and_deleted_only_when_told_so(tmp_path, hub):
    made = make(tmp_path / "work/merged")
    old = {"config.json": b"{}", "model-00002.safetensors": b"old", "README.md": b"mine"}
    repo = hub.repo(REPO, **old)
    before = dict(repo.branches)
    said = fails(hub, tmp_path, *push())
    assert f"{REPO} holds other contents at main" in said
    assert "overwrite or delete README.md, config.json, model-00002.safetensors" in said
    assert "--replace" in said
    assert repo.branches == before
    code, out, said = tune(hub, tmp_path, *push("--replace", "--json"))
    assert code == 0, said
    assert json.loads(out)["deleted"] == ["model-00002.safetensors"]
    assert repo.commits[repo.branches["main"]].keys() == {*files(made.folder), "README.md", ".gitattributes"}


def test_a_new_branch_leaves_main_as_it_is(tmp_path, hub):
    made = make(tmp_path / "work/merged")
    repo = hub.repo(REPO, **{"model-00002.safetensors": b"old"})
    main = repo.branches["main"]
    code, _, said = tune(hub, tmp_path, *push("--revision", "second"))
    assert code == 0, said
    assert repo.branches["main"] == main
    assert repo.commits[repo.branches["second"]].keys() == {*files(made.folder), "README.md", ".gitattributes"}
    assert "is a commit" in fails(hub, tmp_path, *push("--revision", main))


def test_weights_never_go_where_more_people_see_them_than_asked(tmp_path, hub):
    make(tmp_path / "work/merged")
    hub.repo(REPO, private=False)
    for more in ((), ("--dry-run",), ("--revision", "new")):
        assert f"{REPO} is public" in fails(hub, tmp_path, *push(*more))
    assert hub.repos["model", REPO].branches.keys() == {"main"}
    hub.repo(REPO, private=True)
    assert f"{REPO} is private" in fails(hub, tmp_path, *push("--public"))
    del hub.repos["model", REPO]
    hub.faults = [
        Fault("GET /api/models/.*/revision/main$", spoil=lambda b: b.replace(b'"private": true', b'"private": false'))
    ]
    hub.faults[0].times = 2
    assert f"{REPO} is public" in fails(hub, tmp_path, *push())  # an owner's rules made it so
    assert hub.count("PUT|preupload|commit/") == 0


def test_what_the_hub_has_in_the_end_is_compared_with_the_manifest(tmp_path, hub):
    made = make(tmp_path / "work/merged")
    digest = files(made.folder)["model.safetensors"]

    def other(body):
        return body.replace(digest.encode(), b"0" * 64)

    hub.faults = [Fault("GET /api/models/.*/tree/", spoil=other, times=99)]
    said = fails(hub, tmp_path, *push())
    assert "is not the checkpoint in work/merged" in said
    assert "size or digest differ of model.safetensors" in said


def test_a_push_that_broke_off_sends_no_large_file_twice(tmp_path, hub):
    make(tmp_path / "work/merged")
    hub.faults = [Fault("POST .*/commit/", status=500)]
    said = fails(hub, tmp_path, *push("--license", "mit"))
    assert "the Hub is busy" in said
    assert f"tune push work/merged --to {REPO} --license mit" in said
    sent = hub.count("^PUT")
    assert sent == 2  # weights and tokenizer
    code, _, said = tune(hub, tmp_path, *push("--license", "mit"))
    assert code == 0, said
    assert hub.count("^PUT") == sent


def test_the_library_s_own_retries_come_first_and_a_race_is_told(tmp_path, hub):
    make(tmp_path / "work/merged")
    hub.faults = [Fault("PUT /lfs/", status=429, headers={"Retry-After": "0"})]
    code, _, said = tune(hub, tmp_path, *push(), own=True)
    assert code == 0, said
    assert "429" in said
    other = hub.repo("me/raced")
    hub.faults = [Fault("POST .*/commit/", status=412, body={"error": "A commit has happened since"})]
    said = fails(hub, tmp_path, "push", "work/merged", "--to", "me/raced")
    assert "me/raced was changed meanwhile" in said
    assert len(other.commits) == 1


@pytest.mark.parametrize(
    ("token", "fault", "says"),
    [
        ("", None, "there is no token"),
        ("hf_unknown00000", None, "the Hub does not know the token"),
        (READER, None, "its role on the Hub is read"),
        (TOKEN, Fault("POST /api/repos/create", status=403), "the token has not the right"),
        (TOKEN, Fault("POST /api/repos/create", status=409), "was changed meanwhile"),
        (PLAIN, Fault("POST .*/commit/", status=400), "the Hub refuses"),
        (PLAIN, Fault("POST .*/commit/", status=503, body={"error": f"Bearer {PLAIN} {PLAIN}"}), "the Hub is busy"),
        (TOKEN, Fault("PUT /lfs/", status=403, times=9), "the token has not the right"),
        (TOKEN, Fault("GET /api/whoami", status=429), "the Hub is busy"),
    ],
)
def test_a_refusal_says_what_to_do_and_never_the_token(tmp_path, hub, token, fault, says):
    make(tmp_path / "work/merged")
    hub.faults = [fault] if fault else []
    own = token == PLAIN  # the library's log too
    assert says in fails(hub, tmp_path, *push(), token=token, own=own)
    assert "main" not in getattr(hub.repos.get(("model", REPO)), "branches", {}) or hub.count("POST .*/commit/") <= 1


@pytest.mark.parametrize("name", ["docs", "me/a/b", "me/two--dashes", "me/docs.git", "me/ü", "../x/y"])
def test_a_name_that_the_hub_would_not_take_is_told_at_once(tmp_path, hub, name):
    make(tmp_path / "work/merged")
    assert "is no name of a model" in fails(hub, tmp_path, "push", "work/merged", "--to", name)
    assert hub.asked == []


def test_without_a_network_it_says_so(tmp_path, hub):
    make(tmp_path / "work/merged")
    assert "HF_HUB_OFFLINE" in fails(hub, tmp_path, *push(), HF_HUB_OFFLINE="1")
    said = fails(hub, tmp_path, *push(), HF_ENDPOINT="http://user:password@127.0.0.1:9")
    assert "cannot be reached" in said
    assert "password" not in said


def test_the_library_s_own_log_shows_no_secret_either(tmp_path, hub):
    make(tmp_path / "work/merged")
    hub.faults = [Fault("PUT /lfs/", status=503, headers={"Retry-After": "0"})]
    code, _, said = tune(hub, tmp_path, *push(), token=PLAIN, HF_DEBUG="1")
    assert code == 0, said
    assert re.search(r"/lfs/\w{64}\?…", said)  # the warning is there, its signature is not
