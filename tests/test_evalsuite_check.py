"""What is found before anything is asked."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arms import BASE, TUNED, canned, log, question_set, run, stub

from evalsuite import questions
from evalsuite.asking import endpoint, reply
from evalsuite.asking.ask import Endpoint
from evalsuite.asking.endpoint import client
from evalsuite.compare import ALIKE_NOTE, ALONE_NOTE, compare
from evalsuite.questions import QuestionSet
from evalsuite.replies.answers import Arm
from evalsuite.replies.server import Server, same, told_apart
from evalsuite.report import Report
from evalsuite.stub.script import Kind
from evalsuite.stub.server import Fault, Model, Script, serving
from tune.errors import UserError
from tune.evaluate import Evaluate


def test_a_wrong_or_missing_key_is_one_error_before_any_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out = question_set(1), tmp_path / "answers.jsonl"
    monkeypatch.setenv("OPENAI_API_KEY", "right-key")  # must not be sent to whoever is asked
    monkeypatch.setenv("RIGHT", "right-key")
    monkeypatch.setenv("WRONG", "wrong-key")

    def arms(key_env: str) -> dict[str, Endpoint]:
        pairs = (("base", BASE), ("tuned", TUNED))
        return {arm: Endpoint(url=url, key_env=key_env, model=model) for arm, model in pairs}

    with stub(tmp_path, asked, api_key="right-key") as url:
        for key_env, message in (("WRONG", r"refuses the key in \$WRONG"), ("", "refuses requests without a key"),
                                 ("UNSET_KEY", "UNSET_KEY is not set")):  # fmt: skip
            with pytest.raises(UserError, match=message) as e:
                run(url, asked, out, arms=arms(key_env))
            assert "wrong-key" not in str(e.value)
        assert not out.exists()
        assert {a.outcome for a in run(url, asked, out, arms=arms("RIGHT"))} == {"answered"}
    assert b"right-key" not in out.read_bytes()


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        (lambda _: Endpoint(url="http://127.0.0.1:9"), "base endpoint http://127.0.0.1:9/v1 cannot be reached"),
        (lambda url: Endpoint(url=url + "/nowhere"), "does not list its models"),
        (lambda url: Endpoint(url=url, model="gpt-5"), "does not serve gpt-5"),
        (lambda url: Endpoint(url=url), "serves several models"),
    ],
)
def test_an_unusable_endpoint_is_one_error(tmp_path: Path, endpoint: Callable[[str], Endpoint], message: str) -> None:
    with stub(tmp_path, None) as url:
        arms = {"base": endpoint(url), "tuned": Endpoint(url=url, model=TUNED)}
        with pytest.raises(UserError, match=message):
            run(url, question_set(1), tmp_path / "answers.jsonl", arms=arms)
    assert not (tmp_path / "answers.jsonl").exists()


@pytest.mark.parametrize(
    "body", [b"<html>hi</html>", b"{", b"[]", b'{"data": null}', b'{"data": []}', b'{"data": [{}]}']
)
def test_what_lists_no_models_is_no_endpoint(tmp_path: Path, body: bytes) -> None:
    with canned(body) as url, pytest.raises(UserError, match="not a list of models"):
        run(url, question_set(1), tmp_path / "answers.jsonl")


def listing(*cards: dict[str, Any]) -> bytes:
    return json.dumps({"object": "list", "data": cards}).encode()


def look(body: bytes, model: str = "") -> Server:
    async def served(at: Endpoint) -> Server:
        async with client(at) as asking:
            return await endpoint.served(asking, at, "base")

    with canned(body) as url:
        return asyncio.run(served(Endpoint(url=url, model=model)))


@pytest.mark.parametrize("name", ["", "a\ud800", "a\x1b[2J", "a\nb", "a" * 10_000_000])
def test_an_id_that_no_request_can_carry_is_no_model(name: str) -> None:
    with pytest.raises(UserError, match="not a list of models") as e:
        look(listing({"id": name}))
    assert len(str(e.value)) < 1000
    assert look(listing({"id": name}, {"id": "sound"})).model == "sound"


@pytest.mark.parametrize("odd", ["\ud800", "\x1b[2J", "a" * 10_000_000])
def test_what_is_listed_of_a_model_stays_short_and_can_be_written(odd: str) -> None:
    found = [look(listing({"id": "m", "root": odd, "more": {"x": odd.swapcase() * n}})) for n in (1, 1, 2)]
    assert all(Server.model_validate_json(s.model_dump_json()) == s for s in found)
    assert all(len(s.model_dump_json()) < 3000 and s.root.isprintable() for s in found)
    same = [s.model_copy(update={"url": ""}).id for s in found]
    assert same[0] == same[1] != same[2]  # and still tells servers apart


def test_a_list_without_end_is_cut_where_it_is_shown_and_kept() -> None:
    body = listing(*({"id": f"m{i}", "root": "/m"} for i in range(100_000)))
    with pytest.raises(UserError, match="m9 and 99990 more") as e:
        look(body)
    assert len(str(e.value)) < 1000
    assert look(body, "m7").names == tuple(f"m{i}" for i in range(11) if i != 7)


def test_a_header_that_is_no_digest_is_refused(tmp_path: Path) -> None:
    for stamp in ("d1g", "\x1b[2J", "1" * 63, "1" * 65):
        with serving(Script(models={"a": Model(), "b": Model()}, digest=stamp)) as url:
            arms: dict[Arm, Endpoint] = {"base": Endpoint(url=url, model="a"), "tuned": Endpoint(url=url, model="b")}
            with pytest.raises(UserError, match="an x-model-digest that is no digest") as e:
                run(url, question_set(1), tmp_path / "answers.jsonl", arms=arms)
        assert "\x1b" not in str(e.value)


D, E = "1" * 64, "2" * 64


def test_of_several_models_at_one_address_each_has_its_own_digest() -> None:
    cards = [{"id": n, "root": "/m", "digest": D} for n in ("base", f"base@{D[:16]}")]
    cards += [{"id": n, "root": "/a", "parent": "base", "digest": E} for n in ("mine", f"mine@{E[:16]}")]
    base, mine = (look(listing(*cards), name) for name in ("base", "mine"))
    assert (base.model, base.header, base.names) == (f"base@{D[:16]}", D, ("base",))
    assert (mine.model, mine.header, mine.names) == (f"mine@{E[:16]}", E, ("mine",))
    assert (same(base, mine), told_apart(base, mine)) == ("", True)
    assert same(base, base.model_copy(update={"model": "mine"})) == f"both are the checkpoint {D[:16]}"
    assert look(listing({"id": "a", "digest": "sha256:1"})).header == ""  # another server's word for something


@pytest.mark.parametrize(
    ("base", "tuned", "words"),
    [
        ({"models": {f"base@{D[:16]}": Model()}}, {"models": {f"tuned@{D[:16]}": Model()}}, f"the checkpoint {D[:16]}"),
        ({"models": {"a": Model()}, "digest": D}, {"models": {"b": Model()}, "digest": D}, f"the checkpoint {D[:16]}"),
        ({"models": {"a": Model()}, "digest": D}, {"models": {f"b@{D[:16]}": Model()}}, f"the checkpoint {D[:16]}"),
        (
            {"models": {f"a@{D[:16]}": Model()}, "digest": E},
            {"models": {"b": Model()}},
            "names one checkpoint and serves",
        ),
    ],
)
def test_one_checkpoint_under_two_names_is_found_before_anything_is_asked(
    tmp_path: Path, base: dict[str, Any], tuned: dict[str, Any], words: str
) -> None:
    with serving(Script(**base)) as one, serving(Script(**tuned)) as two:
        arms = {"base": Endpoint(url=one), "tuned": Endpoint(url=two)}
        with pytest.raises(UserError, match=words) as e:
            run(one, question_set(1), tmp_path / "answers.jsonl", arms=arms)
        assert e.value.fix
        assert all_of(one) == all_of(two) == []
    assert not (tmp_path / "answers.jsonl").exists()


def test_two_names_of_one_root_at_one_address_are_one_model(tmp_path: Path) -> None:
    claims = [f"{name}@{name * 16}" for name in "de"]
    models = {
        "a": Model(root="/m"),
        "b": Model(root="/m"),
        **{claim: Model(root="/m") for claim in claims},
        "c": Model(root="/n", voice="other"),
    }
    asked = question_set(1)
    with serving(Script(models=models)) as url:
        for pair in (("a", "b"), ("a", "a"), claims):
            arms = {arm: Endpoint(url=url, model=model) for arm, model in zip(("base", "tuned"), pair, strict=True)}
            with pytest.raises(UserError, match="base and tuned are the same model") as e:
                run(url, asked, tmp_path / "answers.jsonl", arms=arms)
            assert "a port of its own" in e.value.fix
        assert all_of(url) == []
        arms = {"base": Endpoint(url=url, model="a"), "tuned": Endpoint(url=url, model="c")}
        run(url, asked, tmp_path / "answers.jsonl", arms=arms)


def test_two_servers_of_one_name_are_found_before_anything_is_asked(tmp_path: Path) -> None:
    """A report tells arms by the names that their models have."""
    asked = question_set(1)
    for digests, fix in ((("", ""), "--served-model-name"), (("a" * 64, "b" * 64), "--name"),
                         (("a" * 64, "a" * 64), "serve run the other checkpoint at")):  # fmt: skip
        scripts = [Script(models={"gpt-oss": Model(voice=digest)}, digest=digest) for digest in digests]
        with serving(scripts[0]) as one, serving(scripts[1]) as two:
            arms = {"base": Endpoint(url=one), "tuned": Endpoint(url=two)}
            with pytest.raises(UserError, match="base and tuned are the same model") as e:
                run(one, asked, tmp_path / "answers.jsonl", arms=arms)
            assert fix in e.value.fix
            assert all_of(one) == all_of(two) == []


@pytest.mark.parametrize(
    ("fault", "words", "fix"),
    [
        (
            "wrong_effort",
            "effort did not reach the prompt: asked high, applied low",
            "--max-effort high",
        ),
        ("other_model", "another model replied: fall-back, not base@0123456789abcdef", "--base-model"),
        ("other_digest", "another model replied: ffffffffffffffff, not no digest", "--base-model"),
        ("401", "HTTP 401", "look at what answers"),
        ("garbage", "not a chat completion", "look at what answers"),
    ],
)
def test_replies_that_are_not_what_is_asked_for_are_found_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Kind, words: str, fix: str
) -> None:
    monkeypatch.setattr(reply, "BACKOFF_SECONDS", 0.01)
    with stub(tmp_path, question_set(1), Model(faults=(Fault(kind=fault),))) as url:
        with pytest.raises(UserError) as e:
            run(url, question_set(1), tmp_path / "answers.jsonl", efforts=["high"])
        assert words in str(e.value)
        assert fix in e.value.fix
        assert log(url) == []
    assert not (tmp_path / "answers.jsonl").exists()


def test_every_effort_is_tried_on_both_arms(tmp_path: Path) -> None:
    with stub(tmp_path, question_set(1)) as url:
        run(url, question_set(1), tmp_path / "answers.jsonl", efforts=["low", "high"])
        tried = [(x["model"], x["effort"]) for x in all_of(url) if x["max_tokens"] == 1]
    assert tried == [(BASE, "low"), (BASE, "high"), (TUNED, "low"), (TUNED, "high")]


def test_a_server_that_refuses_stream_options_is_asked_without_them(tmp_path: Path) -> None:
    asked, lines = question_set(2), list[str]()
    with stub(tmp_path, asked, stream_options=False) as url:
        found = run(url, asked, tmp_path / "answers.jsonl", report=lines.append)
        tried = [x for x in all_of(url) if x["max_tokens"] == 1]
        sent = len(log(url))
        assert run(url, asked, tmp_path / "answers.jsonl") == found  # and is known again
        assert len(log(url)) == sent
    assert {a.outcome for a in found} == {"answered"}
    assert {(a.prompt_tokens, a.completion_tokens, a.reasoning_tokens) for a in found} == {(None, None, None)}
    assert [line.partition(" ")[0] for line in lines if "refuses stream_options" in line] == ["base", "tuned"]
    assert len(tried) == 4, "what is refused is known of an arm, and not found at every effort"


@pytest.mark.parametrize("fault", ["other_model", "other_digest"])
def test_a_router_that_falls_back_later_is_an_error_and_void(tmp_path: Path, fault: Kind) -> None:
    asked = question_set(4)
    with stub(tmp_path, asked, Model(faults=(Fault(kind=fault, prompt="q1"),)), digest="") as url:
        made = compared(
            tmp_path, asked, {"base": Endpoint(url=url, model=BASE), "tuned": Endpoint(url=url, model=TUNED)}
        )
    assert made.evidence.model_mismatches == 2
    assert "2 replies came from another model than the one asked for" in made.verdict.reasons
    assert made.verdict.exit_code == 3


def test_a_name_that_vllm_gives_its_model_besides_is_no_other_model(tmp_path: Path) -> None:
    """vLLM replies under the first name it was given: `serve run` asked for name@digest replies as name."""
    cards = [{"id": name, "root": "/m", "created": n} for n, name in enumerate(("m", "m@" + D[:16]))]

    found = look(listing(*cards))
    assert (found.model, found.names, found.root) == ("m@" + D[:16], ("m",), "/m")


def test_two_arms_that_only_their_names_tell_apart_are_named_and_void_if_they_never_differ(tmp_path: Path) -> None:
    asked, lines = question_set(4), list[str]()
    path = tmp_path / "q.jsonl"
    questions.write(path, asked)
    plain, claimed, sent = ("a", ""), ("a@" + D[:16], ""), ("a", D)
    for n, (base, voice, accuracy, named, void) in enumerate(
        [
            (plain, "word", 1.0, True, True),
            (plain, "word", 0.0, True, False),
            (plain, "other", 1.0, False, True),
            (claimed, "word", 1.0, True, True),  # a digest in a name is no more than a name
            (claimed, "word", 0.0, True, False),
            (claimed, "other", 0.0, False, False),
            (sent, "word", 1.0, False, False),
        ]
    ):
        name, digest = (text.replace("a", "b").replace("1", "2") for text in base)
        model = Model(voice=voice, accuracy=accuracy)
        with (
            serving(Script(models={base[0]: Model()}, questions=path, digest=base[1])) as one,
            serving(Script(models={name: model}, questions=path, digest=digest)) as two,
        ):
            arms = {"base": Endpoint(url=one), "tuned": Endpoint(url=two)}
            made = compared(tmp_path / f"{n}", asked, arms, progress=lines.append)
        assert (ALIKE_NOTE in made.note) == named
        assert any("are these two models?" in line for line in lines) == named
        assert (made.verdict.outcome == "INVALID") == void
        assert ("word for word" in " ".join(made.verdict.reasons)) == void
        lines.clear()


@pytest.mark.parametrize(("modules", "alone"), [(["m"], True), (["m", "other"], False)])
def test_a_set_about_one_module_is_told_to_the_reader(tmp_path: Path, modules: list[str], alone: bool) -> None:
    plain = question_set(4)
    asked = [q.model_copy(update={"module": modules[i % len(modules)]}) for i, q in enumerate(plain.questions)]
    general = asked[0].model_copy(update={"id": "g", "prompt": "2 + 2?", "split": "general", "module": "general"})
    made = plain.model_copy(update={"questions": (*asked, general)})
    with stub(tmp_path, made) as url:
        arms = {"base": Endpoint(url=url, model=BASE), "tuned": Endpoint(url=url, model=TUNED)}
        assert (ALONE_NOTE in compared(tmp_path / "out", made, arms).note) == alone


def all_of(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/requests") as response:
        found: list[dict[str, Any]] = json.load(response)
        return found


def compared(out: Path, asked: QuestionSet, arms: dict[Arm, Endpoint], **more: Any) -> Report:
    out.mkdir(exist_ok=True)
    questions.write(out / "questions.jsonl", asked)
    settings = Evaluate(efforts=["low", "high"], max_tokens=64)
    return compare(arms, settings=settings, question_file=out / "questions.jsonl", out=out, **more)
