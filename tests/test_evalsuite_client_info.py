"""Asking as `deploy client` describes an endpoint: headers, signed tokens, "not yet", models that are not listed."""

import asyncio
import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
from arms import SAMPLING, question_set
from botocore.credentials import Credentials
from click.testing import CliRunner, Result
from clouds import DIGEST, MODEL, Cloud, serving, signature

from evalsuite import questions, report
from evalsuite.asking import access, ask, client_info, patience, reply, signed
from evalsuite.asking.client_info import ClientInfo
from evalsuite.asking.endpoint import client, served
from evalsuite.asking.patience import not_yet
from evalsuite.cli import main
from evalsuite.replies import answers
from evalsuite.replies.answers import Reply
from evalsuite.replies.server import Server
from tune.errors import UserError

SECRET, REGION = "wJalrXUtnFEMI/K7MDENG", "eu-west-1"
VALUES = {"modal-key": "wk-hush0123", "modal-secret": "ws-hush4567"}
ENV = {"Modal-Key": "MODAL_ID", "Modal-Secret": "MODAL_SECRET"}
# What sagemaker-core 2.27's own generator makes of these credentials at that moment, decoded; and with a session.
OFFICIAL = {
    None: "sagemaker.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIDEXAMPLE%2F20261128%2Feu-west-1%2Fsagemaker%2Faws4_request&X-Amz-Date=20261128T120000Z"
    "&X-Amz-Expires=43200&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=276f2224628057bf7dc3ffd4d3489a0c5fc80281c2f0923a69afb54b3f0e157e&Version=1",
    "session/token==": "sagemaker.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIDEXAMPLE%2F20261128%2Feu-west-1%2Fsagemaker%2Faws4_request&X-Amz-Date=20261128T120000Z"
    "&X-Amz-Expires=43200&X-Amz-SignedHeaders=host&X-Amz-Security-Token=session%2Ftoken%3D%3D"
    "&X-Amz-Signature=23d5cef2caec16a9edde3f8cf0f54d7d2f50e2a132d6f687a618a2cdf103e672&Version=1",
}
NOW = datetime(2026, 11, 28, 12)  # UTC, as botocore has it


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(reply, "BACKOFF_SECONDS", 0.01)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("MODAL_ID", VALUES["modal-key"])
    monkeypatch.setenv("MODAL_SECRET", VALUES["modal-secret"])


def info(url: str, **more: Any) -> ClientInfo:
    return ClientInfo.model_validate({"base_url": url, "model": MODEL, "patience_seconds": 20, **more})


@pytest.mark.parametrize("session", OFFICIAL)
def test_a_token_is_the_official_generator_s_byte_for_byte(
    monkeypatch: pytest.MonkeyPatch, session: str | None
) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_a, **_k: NOW)
    made = signed.token(Credentials("AKIDEXAMPLE", SECRET, session), REGION, 99_999)  # cut to what AWS takes
    assert made == signed.PREFIX + base64.b64encode(OFFICIAL[session].encode()).decode()


def test_a_token_is_made_anew_long_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now, day = [0.0], count()
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_a, **_k: NOW + timedelta(seconds=next(day)))
    current = signed.signer(REGION, lambda: now[0])
    first = current()
    now[0] = signed.ANEW_SECONDS - 1
    assert current() == first
    now[0] = signed.ANEW_SECONDS
    assert current() != first
    told, _ = signature(first, SECRET, {})
    assert signed.ANEW_SECONDS < int(told["X-Amz-Expires"]) <= 43_200


def test_without_credentials_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match="no AWS credentials") as e:
        access.door(signed="sagemaker", region=REGION)
    assert "aws configure" in e.value.fix
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UserError, match="cannot be read"):
        access.door(signed="sagemaker", region=REGION)


def of_sagemaker(**more: Any) -> tuple[Cloud, dict[str, Any]]:
    cloud = Cloud(signed=("AKIDEXAMPLE", SECRET, REGION), prefix="/endpoints/docs/openai/v1", **more)
    cloud.wrong.add("no list")
    return cloud, {"signed": "sagemaker", "region": REGION, "stream": True, "lists": False}


def who(cloud: Cloud, lines: list[str] | None = None, **more: Any) -> Server:
    with serving(cloud) as url:
        at = info(url, **more).endpoint

        async def found() -> Server:
            async with client(at) as asking:
                return await served(asking, at, "tuned", ([] if lines is None else lines).append)

        return asyncio.run(found())


def test_where_no_models_are_listed_the_digest_is_the_header_s_or_none(tmp_path: Path) -> None:
    cloud, how = of_sagemaker(called="docs")
    found = who(cloud, **how)
    assert (found.model, found.names, found.header) == (MODEL, ("docs",), DIGEST)
    cloud, how = of_sagemaker(wrong={"no digest"})
    found = who(cloud, **how)
    assert (found.header, found.names, found.digest) == ("", (), DIGEST[:16])  # a name is all that is known
    cloud, how = of_sagemaker(called="gpt-5")
    assert who(cloud, **how).names == ()
    with pytest.raises(UserError, match="another model replied: gpt-5"):
        run(cloud, how, {}, [], tmp_path / "a.jsonl")
    cloud, how = of_sagemaker(wrong={"html"})
    with pytest.raises(UserError, match="does not reply as asked at effort low"):
        run(cloud, how, {}, [], tmp_path / "a.jsonl")


@pytest.mark.parametrize("status", [400, 502, 503, 524])
def test_a_cold_start_is_waited_for_before_anything_is_asked(status: int) -> None:
    lines: list[str] = []
    cloud = Cloud(away=[(status, "no worker")] * 3)
    assert who(cloud, lines, retry=[400, 502, 503, 524]).header == DIGEST
    assert cloud.statuses == {status: 3, 200: 1}
    assert re.fullmatch(rf"tuned is waited for: HTTP {status} after \d+ s: asked again until 20 s have gone", lines[0])
    with pytest.raises(UserError, match="does not list its models"):
        who(Cloud(away=[(status, "no worker")] * 3), retry=[429])
    with pytest.raises(UserError, match="does not list its models"):
        who(Cloud(away=[(status, "no worker")] * 999), retry=[status], patience_seconds=0)


def test_a_key_that_is_refused_is_named_by_its_variable_and_not_shown() -> None:
    wrong = {name: value[::-1] for name, value in VALUES.items()}
    with pytest.raises(UserError, match=r"refuses the key in \$MODAL_ID and \$MODAL_SECRET") as e:
        who(Cloud(headers=wrong), headers=ENV)
    assert "hush" not in str(e.value)
    cloud, how = of_sagemaker()
    with pytest.raises(UserError, match="refuses a token signed with the AWS credentials") as e:
        who(cloud, **{**how, "region": "us-east-1"})
    assert "CallWithBearerToken" in e.value.fix


@pytest.mark.parametrize(
    ("status", "body", "again"),
    [
        (400, b"no workers available", True),
        (400, b'{"error": "no workers available"}', True),
        (400, b'{"error": {"message": "too long", "type": "BadRequestError"}}', False),
        (400, b'{"object": "error", "message": "too long"}', False),
        (429, b'{"error": {"message": "slow down"}}', True),
        (503, b'{"error": {"message": "starting"}}', True),
        (524, b"<html>", True),
        (500, b"", False),
    ],
)
def test_not_yet_is_the_platform_s_word_and_not_the_engine_s(status: int, body: bytes, again: bool) -> None:
    statuses = (400, 429, 503, 524)
    assert not_yet(status, {}, body, statuses) == again
    assert not_yet(status, {"x-model-digest": DIGEST}, body, statuses) == (again and status != 400)
    assert not not_yet(status, {}, body, ())


def run(tuned: Cloud, how: dict[str, Any], base: dict[str, Any], lines: list[str], out: Path,
        **more: Any) -> list[Reply]:  # fmt: skip
    asked = question_set(4)
    other = Cloud(model="base", digest="f" * 64, voice="Something else.", **base)
    with serving(tuned) as url, serving(other) as two:
        arms: Any = {"base": info(two, model="base").endpoint, "tuned": info(url, **how).endpoint}
        told = {"efforts": ["low"], **SAMPLING, **more}
        meta = asyncio.run(ask.ask(asked, arms, out=out, report=lines.append, **told))
    return list(answers.counted(answers.read(out, asked), asked, ["low"], meta)[0])


def test_a_token_changes_in_the_middle_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seconds, lines = count(), list[str]()
    start = datetime.now(UTC).replace(tzinfo=None)
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda *_a, **_k: start + timedelta(seconds=next(seconds))
    )
    monkeypatch.setattr(signed, "ANEW_SECONDS", 0.0)
    cloud, how = of_sagemaker()
    found = run(cloud, how, {}, lines, tmp_path / "a.jsonl")
    assert not [a.error for a in found if a.error]
    tokens = [h["authorization"] for h in cloud.shown if h.get("authorization")]
    assert len({*tokens}) == len(tokens) > 5
    assert set(cloud.statuses) == {200, 404}  # /version
    assert not [line for line in lines if "known by its name" in line]
    assert "sagemaker-api-key" not in (tmp_path / "a.jsonl").read_text()


def test_a_model_that_only_has_a_name_is_called_so(tmp_path: Path) -> None:
    lines: list[str] = []
    cloud, how = of_sagemaker(wrong={"no digest"})
    run(cloud, how, {}, lines, tmp_path / "a.jsonl")
    assert any("known by its name alone" in line for line in lines)


def test_not_yet_in_the_middle_of_a_run_costs_no_answer_and_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cloud, lines = Cloud(headers=VALUES), list[str]()
    tried = ask.check

    async def checked(*args: Any) -> Any:
        found = await tried(*args)
        cloud.away += [(503, "scaling"), (524, "late"), (400, '{"error": "no workers"}')] * 2
        return found

    monkeypatch.setattr(ask, "check", checked)
    how = {"headers": ENV, "retry": [400, 503, 524]}
    found = run(cloud, how, {}, lines, tmp_path / "a.jsonl", retries=0)
    assert not [a.error for a in found if a.error]
    assert 'tuned said "not yet" and was asked again: 2 times HTTP 400, 2 times HTTP 503, 2 times HTTP 524' in lines
    again = run(cloud, how, {}, lines, tmp_path / "b.jsonl", retries=0)  # and none when there was none
    assert len(again) == len(found) == 8


def test_what_the_platform_ends_too_early_is_said() -> None:
    known = {"question": "q", "arm": "tuned", "effort": "low", "model": "m", "server": "s", "request": "r"}
    said = Reply(**known, text="x", finish_reason="stop", completion_tokens=101, first_token_s=1.0, total_s=11.0)  # type: ignore[arg-type]
    assert ask._ended(said, 600, 60) == ""  # 10 tokens a second
    assert "601 would take 60 s" in ask._ended(said, 601, 60)
    assert "evaluate.max_tokens to 600" in ask._ended(said, 4000, 60)
    assert ask._ended(said, 4000, 0) == ""
    assert ask._ended(said.model_copy(update={"completion_tokens": None}), 4000, 60) == ""


@pytest.fixture
def evalsuite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    evaluate = '[evaluate]\nefforts = ["low"]\nmodules = ["m"]\nquestions = 4\nbook = "closed"\ntaught = 0\n'
    (tmp_path / "recipe.toml").write_text(evaluate)
    (tmp_path / "work").mkdir()
    questions.write(tmp_path / "work" / "questions.jsonl", question_set(4))

    def call(*args: object, code: int = 0, or_void: bool = False) -> Result:
        done = CliRunner().invoke(main, [str(a) for a in args])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        assert done.exit_code in {code, 3 if or_void else code}, done.output  # a busy machine voids a load test
        assert "hush" not in done.output
        return done

    return call


def test_compare_asks_and_loads_an_endpoint_as_its_client_file_says(
    evalsuite: Callable[..., Result], tmp_path: Path
) -> None:
    tuned, base = Cloud(headers=VALUES), Cloud(model="base", digest="f" * 64, voice="Something else.")
    with serving(tuned) as url, serving(base) as two:
        told = tmp_path / "client.json"
        told.write_text(info(url, headers=ENV).model_dump_json())
        both = ("--base", two, "--tuned-client", told)
        evalsuite("compare", *both)
        made = report.read(tmp_path / "work" / "report.json")
        assert (made.tuned_model, made.asked.servers["tuned"].header) == (MODEL, DIGEST)
        assert made.throughput
        assert "0 requests to" in evalsuite("compare", *both, "--no-speed").stderr
        before = tuned.statuses[200]
        evalsuite("bench", "--base-client", told, "--blocks", 2, "--requests", 2, or_void=True)
        assert tuned.statuses[200] >= before + 4
        told.write_text(info(url, headers=ENV).model_dump_json())
        evalsuite("noise", "--base-client", told, or_void=True)
    assert tuned.statuses[401] == 0
    for path in (tmp_path / "work").iterdir():
        assert b"hush" not in path.read_bytes()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--base", "http://x", "--tuned", "http://y", "--tuned-client", "c"), "--tuned-client stands for --tuned"),
        (("--base-client", "c", "--base-model", "m", "--tuned", "http://y"), "--base-client stands for --base"),
        (("--base", "http://x"), "Missing option '--tuned'"),
        (("--replay", "--tuned-client", "c"), "asks no server"),
        (("--base", "http://x", "--tuned-client", "gone.json"), "gone.json cannot be used"),
    ],
)
def test_which_options_go_together(evalsuite: Callable[..., Result], args: tuple[str, ...], message: str) -> None:
    assert message in evalsuite("compare", *args, code=2).output


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "JSON"),
        ("[]", "object"),
        ("{" * 100_000, "bytes long"),
        ('{"base_url": "http://x/v1"}', "model"),
        ('{"base_url": "http://u:hush@x/v1", "model": "m"}', "user name"),
        ('{"base_url": "http://x/v1", "model": "m", "key": "hush"}', "key: Extra"),
        ('{"base_url": "http://x/v1", "model": "m", "key_env": "hush hush"}', "key_env"),
        ('{"base_url": "http://x/v1", "model": "m", "headers": {"A\\r\\nB": "C"}}', "headers"),
        ('{"base_url": "http://x/v1", "model": "m", "signed": "sagemaker"}', "region"),
        ('{"base_url": "http://x/v1", "model": "", "lists": false}', "/v1/models is not routed"),
    ],
)
def test_what_is_no_client_file_is_refused_in_words(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "client.json"
    path.write_text(text)
    with pytest.raises(UserError) as e:
        client_info.read(path)
    assert why in str(e.value)
    assert "hush" not in str(e.value)
    assert e.value.fix


def test_a_header_that_is_not_of_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no header of a key"):
        access.door(headers={"Host": "MODAL_ID"})
    monkeypatch.setenv("MODAL_ID", "two\r\nlines")
    with pytest.raises(UserError, match=r"\$MODAL_ID holds a line break") as e:
        access.door(headers=ENV)
    assert "lines" not in str(e.value)
    assert "hush" not in repr(access.Door(lambda: "hush", {"Modal-Key": "hush"}))
