"""`deploy smoke` against a platform's door on loopback, sound and with each fault planted; and against the engine."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from clouds import DIGEST, MODEL, Cloud, serving
from deployment import rendered
from hypothesis import given
from hypothesis import strategies as st

from deploy import exchange, kept, live, probing, targets
from deploy import folder as folders
from deploy.cli import main
from deploy.exchange import Heard
from deploy.live import Live, Release
from deploy.smoke import CHECKS, Smoke, smoke
from evalsuite.asking.client_info import ClientInfo
from evalsuite.asking.stream import Stream
from tune import artefact
from tune.errors import UserError

KEY = "sk-hush-0123456789"
AWS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(exchange, "WAIT_SECONDS", 0.01)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SMOKE_KEY", KEY)


def info(url: str, **more: Any) -> ClientInfo:
    return ClientInfo.model_validate({"base_url": url, "model": MODEL, "patience_seconds": 5, **more})


def run(cloud: Cloud, *, seconds: float = 5.0, digest: str = DIGEST, lines: list[str] | None = None,
        **more: Any) -> Smoke:  # fmt: skip
    lines = [] if lines is None else lines
    with serving(cloud) as url:
        made = smoke(info(url, **more), digest=digest, seconds=seconds, tell=lines.append)
    for text in (made.model_dump_json(), *lines):
        assert KEY[:10] not in text
        assert "sagemaker-api-key-" not in text
        assert text.isprintable()
    assert [check.id for check in made.checks] == [*CHECKS]
    return made


def outcomes(made: Smoke) -> dict[str, str]:
    return {check.id: check.outcome for check in made.checks}


def words(made: Smoke, id: str) -> str:
    return next(check.words for check in made.checks if check.id == id)


def locked(**more: Any) -> Cloud:
    return Cloud(headers={"authorization": f"Bearer {KEY}"}, **more)


def test_a_sound_endpoint_passes_every_check() -> None:
    made = run(cloud := locked(), key_env="SMOKE_KEY")
    assert set(outcomes(made).values()) == {"passed"}, made.checks
    assert made.passed
    assert (made.answered, made.engine, made.asked_again) == (DIGEST, "0.32.0", {})
    assert "4 tokens at effort low, 48 at high" in words(made, "effort")
    assert "1888 of 2048 tokens" in words(made, "long-prompt")
    assert {bool(body.get("stream")) for body in cloud.asked} == {True, False}


def test_an_endpoint_without_a_key_has_no_keys_to_check() -> None:
    made = run(Cloud())
    skipped = [id for id, outcome in outcomes(made).items() if outcome == "skipped"]
    assert skipped == ["wrong-key", "no-key"]
    assert made.passed


# The fault, the checks that fail for it, and a word of why. Every other check passes or warns.
FAULTS = [
    ("markers", {"chat", "stream", "tools"}, "raw harmony mark <|channel|>"),
    ("no answer", {"chat", "stream"}, "content is empty"),
    ("truncated", {"stream", "effort"}, "the stream was cut off"),
    ("no done", {"stream", "effort"}, "without [DONE]"),
    ("no finish", {"stream", "effort"}, "without a finish reason"),
    ("no usage", {"stream"}, "no usage"),
    ("whole only", {"stream", "effort"}, "answers in one piece"),
    ("error in 200", {"names", "chat", "stream", "effort", "tools", "long-prompt"}, "200 with an error inside"),
    ("html", {"names", "chat", "stream", "effort", "tools", "long-prompt"}, "no chat completion"),
    ("same effort", {"effort"}, "the very same"),
    ("other effort", {"effort"}, "low was asked and medium applied"),
    ("half a call", {"tools"}, "no JSON object"),
    ("500 on long", {"long-prompt"}, "not refused with 4xx: HTTP 500"),
    ("cuts long", {"long-prompt"}, "it is answered"),
    ("lists other", {"names"}, "lists other, and not docs"),
    ("other digest", {"names", "one-model"}, f"x-model-digest is {'f' * 64}, not"),
    ("later digest", {"one-model"}, f"x-model-digest was {DIGEST} and {'f' * 64}, and"),
    ("lax", {"wrong-key"}, "a wrong key is not refused"),
    ("open", {"no-key"}, "a request without a key is not refused"),
]


@pytest.mark.parametrize(("fault", "failed", "why"), FAULTS, ids=[f[0] for f in FAULTS])
def test_each_fault_turns_its_checks_red(fault: str, failed: set[str], why: str) -> None:
    made = run(locked(wrong={fault}), key_env="SMOKE_KEY")
    red = {id for id, outcome in outcomes(made).items() if outcome == "failed"}
    keys = {"wrong-key", "no-key"}
    assert red - keys == failed - keys, made.checks
    assert red >= failed, made.checks
    assert any(why in check.words for check in made.checks), made.checks
    assert not made.passed


def test_what_may_be_a_small_model_or_a_quiet_platform_is_a_warning() -> None:
    made = run(Cloud(wrong={"no calls", "no digest"}))
    assert outcomes(made)["tools"] == outcomes(made)["names"] == "warned"
    assert "which weights answer is not shown" in words(made, "names")
    assert made.passed
    assert made.answered == ""


def test_a_forced_call_that_a_small_model_spoils_is_a_warning_and_an_engine_that_fails_is_none() -> None:
    made = run(Cloud(wrong={"calls raw"}))
    assert outcomes(made)["tools"] == "warned"
    assert "forced: a call stands raw" in words(made, "tools")
    made = run(Cloud(wrong={"fails forced"}))
    assert outcomes(made)["tools"] == "failed"
    assert "HTTP 500" in words(made, "tools")


@pytest.mark.parametrize("status", [400, 502, 503, 524])
def test_a_cold_start_is_waited_for_and_counted(status: int) -> None:
    lines: list[str] = []
    cloud = Cloud(away=[(status, "no worker is ready")] * 3)
    made = run(cloud, lines=lines, retry=[400, 502, 503, 524])
    assert made.passed
    assert made.asked_again == {str(status): 3}
    assert "asked 4 times" in words(made, "cold-start")
    assert "not yet" in lines[0]


def test_a_key_that_a_platform_echoes_is_shown_nowhere_not_even_a_part_of_it() -> None:
    for before in ("", "x" * (exchange.LONGEST - 12)):
        lines: list[str] = []
        made = run(locked(away=[(503, before + KEY), (500, before + KEY)]), key_env="SMOKE_KEY", lines=lines)
        for text in (lines[0], words(made, "cold-start")):
            assert "sk-" not in text


def test_a_cold_start_without_end_is_one_failure_and_the_rest_is_skipped() -> None:
    made = run(Cloud(away=[(503, "starting")] * 10_000), patience_seconds=1)
    assert outcomes(made) == {id: "failed" if id == "cold-start" else "skipped" for id in CHECKS}
    assert "HTTP 503: starting" in words(made, "cold-start")
    made = run(Cloud(away=[(524, "late")]), patience_seconds=1)  # a status that the platform does not mean by it
    assert outcomes(made)["cold-start"] == "failed"


def test_a_refusal_of_the_engine_is_no_cold_start() -> None:
    """RunPod says 400 for "no worker", and the engine for a prompt that is too long: the second is an answer."""
    said = json.dumps({"error": {"message": "no", "type": "BadRequestError", "code": 400}})
    made = run(cloud := Cloud(away=[(400, said)]), retry=[400])
    assert outcomes(made)["cold-start"] == "failed"
    assert len(cloud.shown) == 1
    made = run(Cloud(), retry=[400])  # nor a prompt that is too long
    assert (outcomes(made)["long-prompt"], made.asked_again) == ("passed", {})


@pytest.mark.parametrize("fault", ["hang", "trickle"])
def test_an_answer_that_does_not_come_or_end_is_given_up(fault: str) -> None:
    made = run(Cloud(wrong={fault}), seconds=0.3, patience_seconds=0)
    failed = {id for id, outcome in outcomes(made).items() if outcome == "failed"}
    assert failed == ({"cold-start"} if fault == "hang" else {"stream", "effort"})
    assert any("no answer within 0.3 s" in check.words for check in made.checks)


def test_where_nothing_listens_is_a_failure_in_words() -> None:
    made = smoke(info("http://127.0.0.1:9/v1", retry=[]))
    assert outcomes(made)["cold-start"] == "failed"
    assert "refused" in words(made, "cold-start")


def test_modal_s_headers_come_from_variables_and_a_wrong_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"modal-key": "wk-hush0123", "modal-secret": "ws-hush4567"}
    monkeypatch.setenv("MODAL_ID", values["modal-key"])
    monkeypatch.setenv("MODAL_SECRET", values["modal-secret"])
    told = {"Modal-Key": "MODAL_ID", "Modal-Secret": "MODAL_SECRET"}
    lines: list[str] = []
    made = run(cloud := Cloud(headers=values), headers=told, lines=lines)
    assert set(outcomes(made).values()) == {"passed"}, made.checks
    assert cloud.statuses[401] == 2
    assert not [v for v in values.values() if v in made.model_dump_json() + "".join(lines)]
    monkeypatch.delenv("MODAL_SECRET")
    with pytest.raises(UserError, match="MODAL_SECRET is not set"):
        smoke(info("http://127.0.0.1:9/v1", headers=told))


def sagemaker(monkeypatch: pytest.MonkeyPatch, wrong: set[str] = frozenset(), region: str = "eu-west-1") -> Smoke:  # type: ignore[assignment]
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    signed = (AWS["AWS_ACCESS_KEY_ID"], AWS["AWS_SECRET_ACCESS_KEY"], "eu-west-1")
    cloud = Cloud(signed=signed, prefix="/endpoints/docs/openai/v1", wrong={"no list", *wrong})
    made = run(cloud, signed="sagemaker", region=region, stream=True, lists=False, answer_seconds=480)
    assert all(body.get("stream") for body in cloud.asked)
    return made


def test_sagemaker_s_route_is_asked_streamed_and_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sagemaker(monkeypatch)
    told = outcomes(made)
    assert (told.pop("chat"), told.pop("long-prompt")) == ("skipped", "skipped")  # not streamed; its length not known
    assert set(told.values()) == {"passed"}, made.checks
    assert made.engine == ""  # nothing but completions is routed


def test_a_token_for_another_region_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sagemaker(monkeypatch, region="us-east-1")
    assert outcomes(made)["cold-start"] == "failed"
    assert "HTTP 403" in words(made, "cold-start")


def test_marks_without_a_call_are_a_small_model_s_and_a_raw_call_is_not() -> None:
    call = "<|channel|>commentary to=functions.get_weather<|message|>{}"
    for text, outcome in (("a <|start|> b", "warned"), (call, "failed"), ("get_weather", "warned")):
        data = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        assert probing.called(exchange._whole(Heard(200, ""), json.dumps(data).encode(), str)).outcome == outcome


@given(st.binary(max_size=300))
def test_no_bytes_of_a_server_are_more_than_a_failed_check(data: bytes) -> None:
    heard = exchange._whole(Heard(200, ""), data, str)
    for judge in (probing.answered, probing.streamed, probing.called):
        assert judge(heard).outcome in {"passed", "failed", "warned"}
    assert isinstance(probing.listed(_json(data)), dict)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["choices", "message", "delta", "tool_calls", "function", "name", "arguments",
                                         "data", "id", "error", "usage", "index"]), inner, max_size=4)))  # fmt: skip
def test_no_json_of_a_server_is_more_than_a_failed_check(said: Any) -> None:
    heard = exchange._whole(Heard(200, ""), json.dumps(said).encode(), str)
    assert probing.answered(heard).outcome in {"passed", "failed"}
    assert isinstance(probing.listed(said), dict)
    assert probing.context(said, "m") >= 0


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


@given(st.integers(1, 4), st.integers(1, 300), st.integers(1000, 140_000))
def test_a_filler_fills_the_context_and_no_more(each: int, template: int, tokens: int) -> None:
    few, more = (_counted(template + each * n) for n in (64, 128))
    count = probing.words_for(tokens, few, more)
    assert count is not None
    if count:
        assert tokens - each < template + each * count <= tokens


def _counted(tokens: int) -> Heard:
    stream = Stream()
    stream.add(0.0, {"choices": [], "usage": {"prompt_tokens": tokens}})
    return Heard(200, "", stream.said())


def invoke(*args: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, ["smoke", *map(str, args)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code == code, done.output
    assert KEY not in done.output
    return done


def test_the_command_s_exit_code_is_what_the_checks_say(tmp_path: Path) -> None:
    with serving(locked()) as url:
        done = invoke("--url", url.removesuffix("/v1"), "--model", MODEL, "--key-env", "SMOKE_KEY")
        assert "10 passed" in done.stdout
        told = tmp_path / "client.json"
        told.write_text(info(url, key_env="SMOKE_KEY").model_dump_json())
        assert Smoke.model_validate_json(invoke("--client", told, "--json").stdout).passed
    with serving(locked(wrong={"markers"})) as url:
        told.write_text(info(url, key_env="SMOKE_KEY").model_dump_json())
        done = invoke("--client", told, code=1)
        assert re.search(r"failed +chat .*raw harmony mark", done.stdout)


def test_nobody_there_is_waited_for_as_long_as_asked(tmp_path: Path) -> None:
    done = invoke("--url", "http://127.0.0.1:9", "--model", "m", "--patience", 0, code=1)
    assert re.search(r"failed +cold-start .*refused", done.stdout)
    assert "9 skipped" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Give a FOLDER"),
        (("--url", "http://x/v1", "--client", "x"), "Give a FOLDER"),
        (("--url", "http://x/v1"), "--model"),
        (("--client", "x", "--model", "m"), "go with --url"),
        (("--url", "http://u:p@x/v1", "--model", "m"), "holds a user name"),
        (("--url", "http://x/v1", "--model", "m", "--key-env", "not a name"), "--key-env"),
        (("--url", "http://x/v1", "--model", "m", "--key-env", "NO_SUCH_KEY"), "NO_SUCH_KEY is not set"),
        (("/nowhere/at/all",), "deploy render"),
    ],
)
def test_wrong_usage_is_exit_2_in_words(args: tuple[str, ...], message: str) -> None:
    assert message in invoke(*args, code=2).output


@pytest.fixture
def pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cloud, Path]]:
    """A rendered folder, and the endpoint that its target says it was pushed to."""
    folder = rendered(tmp_path, "modal", serve={"allowed_efforts": ["low", "medium"]})
    deployment = json.loads((folder / "deployment.json").read_text())["settings"]["deployment"]
    with serving(cloud := locked(model=deployment["model"], digest=deployment["digest"])) as url:
        at = info(url, model=deployment["model"], key_env="SMOKE_KEY")
        monkeypatch.setattr(targets, "operator", lambda _: SimpleNamespace(client=lambda *_: at))
        known = {"model": deployment["model"], "folder_digest": artefact.read(folder, "deployment", remake="").digest}
        release = Release(at="t", gate="PASS", finished=True, **known)
        live.write(folder, Live(target="modal", name=deployment["name"], releases=(release,)))
        yield cloud, folder


def test_of_a_folder_the_deployment_is_held_to_what_was_rendered_and_the_receipt_kept(
    pushed: tuple[Cloud, Path],
) -> None:
    cloud, folder = pushed
    invoke(folder)
    receipt = folder.with_name("modal.smoke.json")
    made = Smoke.model_validate_json(receipt.read_bytes())
    assert (made.digest, made.model) == (cloud.digest, cloud.model)
    assert made.release == artefact.read(folder, "deployment", remake="").digest
    assert KEY not in receipt.read_text()
    assert {body.get("reasoning_effort") for body in cloud.asked} == {None, "low", "medium"}  # high is not allowed
    cloud.wrong.add("other digest")
    assert "x-model-digest is ffff" in invoke(folder, code=1).stdout
    assert not Smoke.model_validate_json(receipt.read_bytes()).passed


def test_what_was_pushed_is_held_to_its_own_render_and_not_to_a_later_one(pushed: tuple[Cloud, Path]) -> None:
    cloud, folder = pushed
    kept.keep(folders.read(folder))
    then = artefact.read(folder, "deployment", remake="").digest
    rendered(folder.parent.parent, "modal")  # every effort is allowed in this one
    invoke(folder)
    made = Smoke.model_validate_json(folder.with_name("modal.smoke.json").read_bytes())
    assert (made.release, made.passed) == (then, True)
    assert {body.get("reasoning_effort") for body in cloud.asked} == {None, "low", "medium"}


def test_the_key_is_in_no_process_list(tmp_path: Path) -> None:
    with serving(locked()) as url:
        told = tmp_path / "client.json"
        told.write_text(info(url, key_env="SMOKE_KEY").model_dump_json())
        command = [sys.executable, "-m", "deploy", "smoke", "--client", str(told), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr
    assert KEY not in " ".join(command) + done.stdout + done.stderr + told.read_text()
