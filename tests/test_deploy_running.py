"""Flows driven over real sockets and processes: what is sent, kept, tried again, and said when it is refused."""

import json
import os
import socket
import stat
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from platform_door import REAL, Fault, opened, until

from deploy import calling, dryrun, hands, live, refusal, running, secrets, sending
from deploy.hands import Hands
from deploy.live import Done
from deploy.refusal import Perhaps
from deploy.steps import Call, Command, Request, Step
from tune.errors import UserError

KEY = "PLATFORM_API_KEY"
SECRET = "value-of-the-key-0123456789"


@pytest.fixture
def door(monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    with opened() as door:
        yield door


@pytest.fixture
def naps(monkeypatch):
    """How long it would have slept."""
    slept = []
    monkeypatch.setattr(sending.time, "sleep", slept.append)
    return slept


def request(method="GET", path="/things/a", **more):
    return Request(method=method, url=REAL + path, key_env=KEY, **more)


def send(door, action, patience=5.0):
    return Hands(Path.cwd(), patience=patience, routes=door.routes).do(action)


def refused(door, action, patience=0.0):
    with pytest.raises(UserError) as caught:
        send(door, action, patience)
    assert SECRET not in caught.value.message
    return caught.value


def script(folder, name, text):
    """A program NAME on PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return lambda name, text: script(folder, name, text)


def makes(id="make", method="POST", path="/things", body=None, **more):
    action = request(method, path, body=body or {"name": "a"})
    return Step(id=id, what=f"do {id}", action=action, **{"makes": "thing {id}", "remove": "rm {id}", **more})


def drive(steps, door, **more):
    """Drive a flow of these steps; what each was sent, and what was said."""
    got, said, kept = [], [], []

    def flow():
        for step in steps:
            got.append((yield step))
        return ("end",)

    at = Hands(Path.cwd(), patience=0.0, routes=door.routes)
    try:
        running.drive(flow(), at, keep=kept.append, say=said.append, go_on="deploy push x", **more)
        error = None
    except (UserError, KeyboardInterrupt) as e:
        error = e
    return got, said, kept, error


# A dry run


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(door, tools, tmp_path):
    tools("builder", f"touch {tmp_path}/ran")

    build = Command(argv=("builder", "a b"), needs=("HF_TOKEN",), lists=True)

    def flow():
        look = yield Step(id="look", what="look", action=build)
        body = {"name": look["out"], "of": look["items"][0]["id"], "all": [i["name"] for i in look["items"]]}
        made = yield makes(body=body)
        call = {"EndpointName": made["deep"]["er"]}
        yield Step(
            id="call",
            what="call",
            action=Call(
                sdk="boto3", service="sagemaker", region="eu-west-1", method="describe_endpoint", arguments=call
            ),
        )
        return (f"at {made['url']}",)

    steps, says = dryrun.rehearse(flow)
    text = "\n".join(line for step in steps for line in dryrun.shown(step))
    assert "$ builder 'a b'   (needs $HF_TOKEN)" in text
    assert f"POST {REAL}/things\n  Authorization: Bearer $PLATFORM_API_KEY" in text
    assert '"of": "<its id>"' in text
    assert '"<its name>"' in text
    assert "boto3 sagemaker.describe_endpoint   (region eu-west-1)" in text
    assert '"EndpointName": "<its er>"' in text
    assert "makes thing <its id>    removed by: rm <its id>" in text
    assert says == ("in the end: at <its url>",)
    assert SECRET not in text
    assert door.asked == []
    assert not (tmp_path / "ran").exists()


def test_a_dry_run_of_a_flow_that_waits_ends(door):
    def flow():
        state = ""
        while state != "READY":
            state = (yield Step(id="wait", what="wait", action=request(), again=True))["state"]
        yield makes()
        return ()

    steps, says = dryrun.rehearse(flow)
    assert [s.id for s in steps] == ["wait"]
    assert says == ("then wait is asked again until it is so",)


def test_a_dry_run_goes_no_further_than_can_be_known(door):
    def counts():
        found = yield Step(id="look", what="look", action=request(), again=True)
        yield makes(body={"n": int(found["count"]) + 1})
        return ()

    def asks():
        yield Step(id="look", what="look", action=request(), again=True)
        raise UserError("there is no secret hf", fix="make it")

    def refuses():
        raise UserError("it was not pushed")
        yield

    with pytest.raises(UserError, match="not pushed"):
        dryrun.rehearse(refuses)
    assert dryrun.rehearse(counts)[1] == ("what follows hangs on what the platform answers",)
    assert dryrun.rehearse(asks)[1] == ("then, unless the platform has it: there is no secret hf",)


@pytest.mark.parametrize(("there", "next"), [(False, "make"), (True, "change")])
def test_a_dry_run_before_the_first_push_finds_nothing_there(there, next):
    def flow():
        found = yield Step(id="look", what="look", action=request(missing=True), again=True)
        yield makes(id="change" if found else "make")
        return ()

    assert dryrun.rehearse(flow, there=there)[0][-1].id == next


def test_a_dry_run_goes_on_past_what_must_be_there():
    def flow():
        if not (yield Step(id="secret", what="look", action=request(path="/secrets/hf", missing=True), again=True)):
            raise UserError("there is no secret hf")
        if not (yield Step(id="look", what="look", action=request(missing=True), again=True)):
            yield makes()
        return ()

    steps, says = dryrun.rehearse(flow, there=False)
    assert [s.id for s in steps] == ["secret", "look", "make"]
    assert says == ()


# Steps done once


def test_each_step_is_kept_as_soon_as_it_is_done(door):
    door.faults["PATCH /things/a"] = [Fault(400)]
    steps = [makes(), makes("change", "PATCH", "/things/a", makes="", remove="")]
    _, said, kept, error = drive(steps, door)
    assert [d.id for d in kept] == ["make"]
    assert kept[0].action == steps[0].action
    assert kept[0].result["id"] == "id1"
    assert (kept[0].makes, kept[0].remove) == ("thing id1", "rm id1")
    assert isinstance(error, UserError)
    assert said[-3:] == ["what was made is still there:", "  thing id1    removed by: rm id1", "go on: deploy push x"]


def test_what_was_done_is_not_done_again_and_gives_the_same(door):
    got, _, kept, _ = drive([makes()], door)
    again, said, _, error = drive([makes()], door, done=kept)
    assert error is None
    assert again == got
    assert len(door.made()) == 1
    assert said == ["do make: done before"]
    assert "apiKey" not in got[0]  # what is not kept, no flow may hang on


def test_another_action_under_the_same_id_is_done(door):
    _, _, kept, _ = drive([makes()], door)
    drive([makes(body={"name": "b"})], door, done=kept)
    assert [a.body["name"] for a in door.made()] == ["a", "b"]


def test_a_look_is_looked_anew_and_sees_everything(door):
    look = Step(id="look", what="look", action=request(), again=True)
    drive([makes()], door)
    got, _, kept, _ = drive([look], door)
    assert got[0]["apiKey"] == "hidden-by-the-platform"
    assert "apiKey" not in kept[0].result
    drive([look], door, done=kept)
    assert len(door.made("GET")) == 2


def test_a_flow_that_waits_pauses_between_looks(door, naps):
    drive([makes()], door)
    look = Step(id="look", what="look", action=request(), again=True)
    _, said, _, _ = drive([look, look, look], door)
    assert naps == [running.LOOK_AGAIN] * 2
    assert said == ["look"]


def test_what_a_platform_calls_a_thing_runs_nothing_in_the_command_that_removes_it(door):
    step = makes()
    done = running.finished(step, {"id": "x; rm -rf / #\n\x1b[2J"})
    assert done.remove == "rm 'x; rm -rf / #'" or done.remove.startswith("rm 'x; rm -rf / # ")
    assert "\x1b" not in done.remove + done.makes
    assert "\n" not in done.remove + done.makes


def test_a_lost_answer_is_perhaps_a_thing_and_a_refusal_is_none(door):
    door.faults["POST *"] = [Fault(mode="drop")]
    _, said, _, error = drive([makes()], door)
    assert isinstance(error, Perhaps)
    assert "  perhaps: thing <its id>    removed by: rm <its id>" in said
    door.faults["POST *"] = [Fault(403)]
    _, said, _, error = drive([makes()], door)
    assert not isinstance(error, Perhaps)
    assert said == ["do make", "go on: deploy push x"]


def test_an_interrupt_tells_what_is_there(door):
    def stopped(_):
        raise KeyboardInterrupt

    earlier = [Done(id="old", what="old", action=request(), makes="thing id0", remove="rm id0")]
    at = Hands(Path.cwd(), routes=door.routes)
    said = []

    def flow():
        yield makes()
        return ()

    with pytest.raises(KeyboardInterrupt):
        running.drive(flow(), at, keep=stopped, say=said.append, earlier=earlier, go_on="deploy push x")
    assert said[1:] == [
        "what was made is still there:",
        "  thing id0    removed by: rm id0",
        "  thing id1    removed by: rm id1",
        "go on: deploy push x",
    ]


@pytest.mark.parametrize("value", ["hf_" + "a1B2" * 8, "://user:password@host", SECRET])
def test_a_step_that_carries_a_secret_is_not_done(door, value):
    _, _, _, error = drive([makes(body={"name": "a", "env": {"X": value}})], door)
    assert "would send what looks like" in error.message
    assert value not in error.message
    assert door.asked == []


# What is kept


def test_results_are_kept_by_the_last_word_of_their_keys():
    found = live.kept(
        {
            "id": "a",
            "executionRoleArn": "arn:aws:x",
            "apiKey": "k",
            "tokenValue": "t",
            "key": 1,
            "env": {"id": "no"},
            "Outputs": [{"OutputKey": "k", "OutputValue": "v", "other": "x"}],
            "gpu": {"count": 2, "pool": "p"},
            "urls": ["https://a", "https://user:password@b"],
            "ready": True,
            "note": "text",
            "description": None,
        }
    )
    assert found == {
        "id": "a",
        "executionRoleArn": "arn:aws:x",
        "Outputs": [{"OutputValue": "v"}],
        "gpu": {"count": 2},
        "urls": ["https://a", "https…b"],
        "ready": True,
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
TOKENS = st.sampled_from(["hf_" + "a1B2" * 8, "sk-" + "a1B2" * 8, "AKIA" + "ABCD" * 4, "rpa_" + "a1B2" * 8])


@given(
    st.dictionaries(st.text(max_size=6), JSON, max_size=4),
    TOKENS,
    st.sampled_from(["id", "url", "out", "apiKey", "token", "x"]),
)
def test_no_token_is_kept_whatever_the_result(result, token, key):
    planted = {**result, key: token, "more": [{key: f"a {token} b"}], "data": {key: {key: token}}}
    found = json.dumps(live.kept(planted))
    assert token not in found
    Done(id="a", what="a", action=request(), result=live.kept(planted))  # it is JSON of a record


# Requests


def test_a_request_sends_its_key_and_takes_json(door):
    made = send(door, request("POST", "/things", body={"name": "a"}))
    assert made["id"] == "id1"
    assert door.asked[0].key == f"Bearer {SECRET}"
    assert send(door, request("DELETE")) == {}
    assert send(door, request(missing=True)) == {}
    door.faults["GET /list"] = [Fault(200, '[{"a": 1}]'), Fault(200, '"x"')]
    assert send(door, request(path="/list")) == {"items": [{"a": 1}]}
    assert send(door, request(path="/list")) == {"value": "x"}


@pytest.mark.parametrize(
    ("fault", "what", "fix"),
    [
        (Fault(400, '{"error": {"message": "gpu is unknown"}}'), "does not take what was sent", "--dry-run"),
        (Fault(401, '{"detail": "who are you"}'), "refuses the key", f"export {KEY}=..."),
        (Fault(402, "{}"), "asks for money", "balance"),
        (Fault(400, '{"message": "Your account balance is too low"}'), "asks for money", "balance"),
        (Fault(403, "{}"), "does not allow it", "the right for it"),
        (Fault(404, "{}"), "does not have it", "deploy status"),
        (Fault(409, "{}"), "there already", "deploy status"),
        (Fault(422, '{"detail": [{"msg": "field required"}]}'), "does not take what was sent", "deploy render TARGET"),
        (Fault(429, "{}"), "asked too often", "wait"),
        (Fault(429, '{"message": "Quota exceeded for H100"}'), "has reached your quota", "higher quota"),
        (Fault(403, '{"message": "max workers limit exceeded"}'), "has reached your quota", "higher quota"),
        (Fault(500, '{"message": "no capacity for H100"}'), "has no capacity", "another [deploy] gpu"),
        (Fault(500, "<html><body>Oops</body></html>"), "has a fault of its own", "status page"),
        (Fault(503, ""), "has a fault of its own", "status page"),
        (Fault(418, ""), "failed", "again"),
        (Fault(200, "<html>login</html>"), "the answer cannot be read", "again"),
        (Fault(200, '{"id": "a"', mode="cut"), "gave no answer", "again"),
    ],
)
def test_a_refusal_says_what_and_what_next(door, fault, what, fix):
    door.faults["POST *"] = [fault]
    error = refused(door, request("POST", "/things", body={"name": "a"}))
    assert what in error.what
    assert fix in error.fix
    assert len(door.asked) == 1
    assert "<html>" not in error.message


def test_what_a_platform_says_is_one_line_cut_and_without_secrets(door):
    token = "hf_" + "a1B2" * 8
    said = f"bad key {SECRET}\n\x1b[2J Bearer abc.def {token} " + "x" * 1000
    door.faults["GET *"] = [Fault(401, json.dumps({"message": said}))]
    error = refused(door, request())
    assert token not in error.message
    assert "abc.def" not in error.message
    assert "\x1b" not in error.message
    assert len(error.why.splitlines()) == 1
    assert len(error.why) < 400


def test_a_redirect_is_not_followed(door):
    door.faults["GET *"] = [Fault(302, "", (("location", f"{door.url}/elsewhere"),))]
    assert "302" in refused(door, request()).why
    assert [a.path for a in door.asked] == ["/things/a"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429),
        Fault(500),
        Fault(502),
        Fault(503),
        Fault(504),
        Fault(mode="drop"),
        Fault(200, '{"a": 1}', mode="cut"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_what_may_be_done_twice_is_tried_again(door, naps, fault, method):
    door.things["a"] = {"id": "a"}
    door.faults[f"{method} *"] = [fault, fault]
    send(door, request(method, body={} if method != "GET" else None), patience=60)
    assert len(door.asked) == 3
    assert len(naps) == 2
    assert naps[0] < naps[1]


@pytest.mark.parametrize(
    ("fault", "times"),
    [(Fault(429), 3), (Fault(503), 3), (Fault(500), 1), (Fault(502), 1), (Fault(504), 1), (Fault(mode="drop"), 1)],
)
def test_what_would_make_a_second_thing_is_tried_again_only_where_none_was_made(door, naps, fault, times):
    door.faults["POST *"] = [fault, fault]
    action = request("POST", "/things", body={"name": "a"})
    if times == 3:
        assert send(door, action, patience=60)["id"]
    else:
        assert isinstance(refused(door, action, patience=60), Perhaps)
    assert len(door.asked) == times


def test_a_refused_connection_is_tried_again_for_a_post_too(door, naps, monkeypatch):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{s.getsockname()[1]}"
    action = request("POST", "/things", body={"name": "a"})
    with pytest.raises(UserError, match="cannot be reached") as caught:
        Hands(Path.cwd(), patience=10, routes={REAL: closed}).do(action)
    assert not isinstance(caught.value, Perhaps)
    assert len(naps) >= 2
    assert sum(naps) <= 10


@pytest.mark.parametrize("said", ["7", format_datetime(datetime.now(UTC) + timedelta(days=1))])
def test_a_retry_after_is_kept_to(door, naps, said):
    door.things["a"] = {"id": "a"}
    door.faults["GET *"] = [Fault(429, headers=(("retry-after", said),))]
    if said == "7":
        send(door, request(), patience=60)
        assert naps == [7.0]
    else:  # longer than anybody waits
        assert "asked too often" in refused(door, request(), patience=60).what
        assert naps == []


@given(st.text(max_size=30))
@example("0\x1f")
def test_a_retry_after_of_any_text_is_some_seconds(text):
    assert 0 <= sending.after(text) < 1e12


def test_a_quota_is_not_waited_for(door, naps):
    door.faults["GET *"] = [Fault(429, '{"message": "quota exceeded"}')]
    refused(door, request(), patience=60)
    assert naps == []


def test_a_platform_that_hangs_is_given_up(door, monkeypatch):
    monkeypatch.setattr(sending, "READ_SECONDS", 0.2)
    door.faults["POST *"] = [Fault(mode="hang")]
    error = refused(door, request("POST", "/things", body={"name": "a"}))
    assert "gave no answer" in error.what
    assert "may have been done" in error.why


@pytest.mark.parametrize(
    ("value", "words"), [("", "is not set"), ("a\nb", "line break"), ("clé", "no header can carry")]
)
def test_a_key_that_is_none_is_said_before_anything_is_sent(door, monkeypatch, value, words):
    monkeypatch.setenv(KEY, value)
    error = refused(door, request())
    assert words in error.what
    assert f"export {KEY}" in error.fix
    assert door.asked == []


# Commands


def test_a_command_runs_in_the_folder_and_gives_what_it_said(tools, tmp_path):
    tools("builder", 'pwd; echo "$@"; echo aside >&2')
    found = Hands(tmp_path).do(Command(argv=("builder", "a b", "$HOME; id")))
    assert found == {"out": f"{tmp_path}\na b $HOME; id\n", "code": 0}


def test_a_command_that_lists_may_fail(tools, tmp_path):
    tools("builder", "echo no such thing; exit 4")
    assert Hands(tmp_path).do(Command(argv=("builder",), lists=True)) == {"out": "no such thing\n", "code": 4}


@pytest.mark.parametrize(
    ("text", "why", "fix"),
    [
        ("echo first >&2; echo disk is full >&2; exit 3", "disk is full", "run it by hand: builder deploy"),
        ("echo only out; exit 1", "only out", "by hand"),
        ("echo Quota exceeded >&2; exit 1", "Quota exceeded", "higher quota"),
    ],
)
def test_a_command_that_fails_says_its_last_line(tools, tmp_path, text, why, fix):
    tools("builder", text)
    with pytest.raises(Perhaps) as caught:
        Hands(tmp_path).do(Command(argv=("builder", "deploy")))
    assert why in caught.value.why
    assert fix in caught.value.fix


def test_a_platform_that_does_not_know_you_is_a_log_in(tools, tmp_path):
    tools("modal", "echo Token missing. Could not authenticate client. >&2; exit 1")
    with pytest.raises(UserError, match=r"fix: modal token new; of a token that you have: modal token set$"):
        Hands(tmp_path).do(Command(argv=("modal", "deploy")))


def test_what_a_command_shows_goes_out_as_it_comes_and_without_secrets(tools, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a1B2" * 8)
    tools("builder", 'mkfifo f; echo "token $HF_TOKEN"; printf "\\033[2Jred\\n"; echo aside >&2; cat f; echo end')
    shown = []

    def show(line):
        shown.append(line)
        if line == "aside":  # the program waits for this: the line was there before it ended
            (tmp_path / "f").write_text("on\n")

    found = Hands(tmp_path, show).do(Command(argv=("builder",), shows=True, needs=("HF_TOKEN",)))
    assert shown == ["token …", "\\x1b[2Jred", "aside", "on", "end"]
    assert found == {"out": "", "code": 0}


def test_a_missing_program_or_variable_is_named_with_its_remedy(tmp_path, monkeypatch, tools):
    monkeypatch.delenv("MODAL_TOKEN_ID", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no program modal") as caught:
        Hands(tmp_path).do(Command(argv=("modal", "deploy")))
    assert "pip install" in caught.value.fix
    with pytest.raises(UserError, match="there is no program docker"):
        Hands(tmp_path).do(Command(argv=("env", "A=1", "docker", "compose", "build")))
    with pytest.raises(UserError, match="MODAL_TOKEN_ID is not set"):
        Hands(tmp_path).do(Command(argv=("modal", "deploy"), needs=("MODAL_TOKEN_ID",)))


@pytest.mark.parametrize("shows", [False, True])
def test_a_command_that_does_not_end_is_ended_with_all_it_started(tools, tmp_path, monkeypatch, shows):
    monkeypatch.setattr(hands, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(hands, "WORK_SECONDS", 0.5)
    tools("builder", f"sleep 60 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(Perhaps, match="did not end within"):
        Hands(tmp_path, lambda _: None).do(Command(argv=("builder",), lists=not shows, shows=shows))
    child = int((tmp_path / "child").read_text())
    until(lambda: not alive(child))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_interrupt_before_the_first_line_ends_the_command_and_keeps_nobody_waiting(tools, tmp_path, monkeypatch):
    tools("cloud", f"echo $$ > {tmp_path}/pid; exec sleep 60")

    class Interrupted(threading.Timer):
        def start(self):
            super().start()
            until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
            raise KeyboardInterrupt

    monkeypatch.setattr(hands.threading, "Timer", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        Hands(tmp_path).do(Command(argv=("cloud",)))
    assert not alive(int((tmp_path / "pid").read_text()))
    assert all(t.finished.is_set() for t in threading.enumerate() if isinstance(t, Interrupted))


def test_a_command_asks_no_questions(tools, tmp_path):
    tools("builder", "read answer; echo got $answer")
    assert Hands(tmp_path).do(Command(argv=("builder",)))["out"] == "got\n"


# Calls


@pytest.fixture
def aws(door, monkeypatch):
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "testing-id"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_ENDPOINT_URL", door.url),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setattr(calling, "TRIES", 1)
    return door


def describe(**more):
    return Call(
        sdk="boto3",
        service="sagemaker",
        region="us-east-1",
        method="describe_endpoint",
        arguments={"EndpointName": "a"},
        **more,
    )


def fault_of_aws(code, message, status=400):
    return Fault(status, json.dumps({"__type": code, "message": message}), (("x-amzn-errortype", code),))


def test_a_call_of_boto3_gives_plain_json(aws):
    aws.faults["POST /"] = [
        Fault(200, json.dumps({"EndpointName": "a", "EndpointStatus": "InService", "CreationTime": 1764000000}))
    ]
    found = calling.call(describe(), patience=0)
    assert found["EndpointStatus"] == "InService"
    assert found["CreationTime"].startswith("2025-11-24T")
    assert "ResponseMetadata" not in found
    json.dumps(found)


@pytest.mark.parametrize(
    ("code", "message", "what"),
    [
        ("AccessDeniedException", "not authorized", "does not allow it"),
        ("ExpiredTokenException", "expired", "refuses the key"),
        ("UnrecognizedClientException", "invalid", "refuses the key"),
        ("ResourceLimitExceeded", "The account-level service limit is 0", "has reached your quota"),
        ("InsufficientCapacity", "Unable to provision: no capacity", "has no capacity"),
        ("ResourceInUse", "there", "there already"),
        ("ThrottlingException", "Rate", "asked too often"),
        ("ValidationException", "bad value", "does not take what was sent"),
        ("ValidationException", 'Could not find endpoint "a".', "does not take what was sent"),
    ],
)
def test_a_refusal_of_aws_says_what(aws, code, message, what):
    aws.faults["POST /"] = [fault_of_aws(code, message)]
    with pytest.raises(UserError) as caught:
        calling.call(describe(), patience=0)
    assert what in caught.value.what
    assert code in caught.value.why
    assert SECRET not in caught.value.message


def test_what_has_gone_at_aws_is_an_answer_where_it_may_be(aws):
    aws.faults["POST /"] = [fault_of_aws("ValidationException", 'Could not find endpoint "a".')]
    assert calling.call(describe(missing=True), patience=0) == {}
    aws.faults["POST /"] = [fault_of_aws("AccessDeniedException", "denied")]
    with pytest.raises(UserError):
        calling.call(describe(missing=True), patience=0)


def test_aws_without_credentials_or_with_wrong_arguments_says_so(aws, monkeypatch):
    wrong = describe().model_copy(update={"arguments": {"Name": 1}})
    with pytest.raises(UserError, match="does not take what was sent"):
        calling.call(wrong, patience=0)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match="no AWS credentials") as caught:
        calling.call(describe(), patience=0)
    assert "aws configure" in caught.value.fix
    assert aws.asked == []


@pytest.mark.parametrize(("sdk", "extra"), [("boto3", "aws"), ("huggingface_hub", "train")])
def test_a_missing_sdk_is_named_with_its_extra(monkeypatch, sdk, extra):
    monkeypatch.setitem(sys.modules, sdk, None)
    with pytest.raises(UserError, match="is not installed") as caught:
        calling.call(Call(sdk=sdk, service="sagemaker", method="whoami"), patience=0)
    assert caught.value.fix == f'pip install "gptoss-kit[{extra}]"'


@pytest.fixture
def hub(door, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", "hf_" + "a1B2" * 8)
    monkeypatch.setattr(constants, "INFERENCE_ENDPOINTS_ENDPOINT", door.url)
    return door


def endpoint(method="get_inference_endpoint", **more):
    return Call(sdk="huggingface_hub", method=method, arguments={"name": "a", "namespace": "me"}, **more)


def test_a_call_of_the_hub_gives_its_raw_json(hub):
    raw = {
        "name": "a",
        "type": "protected",
        "model": {"repository": "r", "revision": "v", "task": "t", "framework": "f"},
        "status": {
            "state": "running",
            "url": "https://a",
            "createdAt": "2026-11-01T00:00:00Z",
            "updatedAt": "2026-11-01T00:00:00Z",
            "message": "",
            "createdBy": {"id": "1", "name": "me"},
            "updatedBy": {"id": "1", "name": "me"},
            "private": None,
            "readyReplica": 1,
            "targetReplica": 1,
        },
        "healthRoute": "/health",
        "provider": {"vendor": "aws", "region": "us-east-1"},
        "compute": {},
    }
    hub.faults["GET /endpoint/me/a"] = [Fault(200, json.dumps(raw))]
    found = calling.call(endpoint(), patience=0)
    assert found["status"]["state"] == "running"


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (401, "refuses the key"),
        (403, "does not allow it"),
        (409, "there already"),
        (429, "asked too often"),
        (500, "fault of its own"),
    ],
)
def test_a_refusal_of_the_hub_says_what(hub, status, what):
    token = os.environ["HF_TOKEN"]
    hub.faults["GET *"] = [Fault(status, json.dumps({"error": f"no: {token}"}))] * 9
    with pytest.raises(UserError) as caught:
        calling.call(endpoint(), patience=0)
    assert what in caught.value.what
    assert token not in caught.value.message


def test_what_has_gone_at_the_hub_is_an_answer_where_it_may_be(hub):
    assert calling.call(endpoint(missing=True), patience=0) == {}
    with pytest.raises(UserError, match="does not have it"):
        calling.call(endpoint(), patience=0)
    assert calling.call(endpoint("delete_inference_endpoint", missing=True), patience=0) == {}


# Words


def test_a_variable_that_names_a_secret_holds_none(monkeypatch):
    monkeypatch.setenv("SECRET_NAME", "python-docs")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/agent.1")
    monkeypatch.setenv("DEPLOY_TOKEN", "python-docs")
    assert "DEPLOY_TOKEN" in secrets.held()
    assert not {"SECRET_NAME", "SSH_AUTH_SOCK"} & {*secrets.held()}


def test_text_without_secrets_has_none(monkeypatch):
    monkeypatch.setenv("MY_PASSWORD", "correct-horse")
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n"
    assert "MIIEow" not in secrets.cleaned(key)
    assert secrets.said("a correct-horse b") == "a … b"
    assert "abc" not in secrets.said("authorization: Basic abc")


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 409, 410, 418, 422, 429, 500, 503])
def test_every_refusal_has_a_next_step(status):
    found = refusal.of("x", status, "words", key="export K=...")
    assert found.fix
    assert "{key}" not in found.fix
    assert found.why == f"it answered {status}: words"
