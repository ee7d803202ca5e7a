"""Several models behind one door: which one a name means, whose digest an answer has, and what nobody may ask for."""

import json

import pytest
from door import OURS, call, echo, opened

from serve.doors import LISTING, LOADING, RANK_HEADER, UNLOADING
from serve.routing import Listed, Routes

BASE, ONE, TWO = "b" * 64, "1" * 64, "2" * 64
NAMES = ("nano", "nano@bbbb")
ADAPTERS = [
    {"name": "one", "engine": "one@1111", "digest": ONE},
    {"name": "two", "engine": "two@2222", "digest": TWO},
]
CHAT = "/v1/chat/completions"
TURNS = [{"role": "user", "content": "x"}]


def served(engine=echo, adapters=ADAPTERS, **changes):
    """A door behind which the engine has a base and these adapters, listed as the supervisor does."""
    door = opened(engine=engine, names=NAMES, digest=BASE, adapters=True, **changes)
    assert call("POST", LISTING, door=door, headers=OURS, json={"adapters": adapters}).status_code == 200
    return door


def asked(model, door=None, path=CHAT, **more):
    answer = call("POST", path, door=door or served(), json={"model": model, "messages": TURNS, **more})
    return answer.status_code, answer.headers.get("x-model-digest"), answer.json()


@pytest.mark.parametrize(
    ("name", "engine", "digest"),
    [
        ("nano", "nano", BASE),
        ("nano@bbbb", "nano", BASE),
        ("nano:low", "nano", BASE),
        ("one", "one@1111", ONE),
        ("one@1111", "one@1111", ONE),
        ("one:high", "one@1111", ONE),
        ("two@2222:low", "two@2222", TWO),
    ],
)
def test_the_answer_s_digest_is_that_of_the_model_that_answers(name, engine, digest):
    status, told, body = asked(name)
    assert (status, told, body["model"]) == (200, digest, engine)


def test_an_effort_behind_an_adapter_s_name_is_applied():
    assert asked("one:high")[2]["reasoning_effort"] == "high"
    assert asked("one")[2]["reasoning_effort"] == "medium"


def test_raw_completions_are_routed_too():
    door = served(raw_completions=True)
    answer = call("POST", "/v1/completions", door=door, json={"model": "two", "prompt": "x"})
    assert (answer.json()["model"], answer.headers["x-model-digest"]) == ("two@2222", TWO)
    assert call("POST", "/v1/completions", door=door, json={"model": "x", "prompt": "x"}).status_code == 404


def test_what_is_not_listed_is_nobody_s_whatever_the_engine_holds():
    door = served(adapters=ADAPTERS[:1])
    for name in ("two", "two@2222", "two:low", "three", "", "one:", "one@1111@1111"):
        status, digest, body = asked(name, door)
        assert (status, digest, body["error"]["code"]) == (404, BASE, "model_not_found")
    answer = call("POST", CHAT, door=door, headers=OURS, json={"model": "two@2222", "messages": TURNS})
    assert answer.json()["model"] == "two@2222"  # the supervisor proves it by that name
    assert call("POST", LISTING, door=door, headers=OURS, json={"adapters": []}).status_code == 200
    assert asked("one", door)[0] == 404


def test_the_anthropic_api_hears_of_an_unknown_model_in_its_own_words():
    assert asked("two", served(adapters=[]), "/v1/messages")[2]["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("path", [LISTING, LOADING, UNLOADING])
def test_loading_and_listing_are_the_supervisor_s_alone(path):
    door = served()
    assert call("POST", path, door=door, json={"adapters": [], "lora_name": "x"}).status_code == 404
    assert call("POST", path, door=door, key="wrong", json={}).status_code == 401
    assert call("GET", path, door=door, headers=OURS).status_code == 404
    assert asked("one", door)[0] == 200


def cards(*names):
    """An engine that lists these, as vLLM 0.32 does."""

    async def engine(scope, receive, send):
        data = [
            {"id": n, "root": f"/models/{n}", "parent": None, "max_model_len": 9 if n in NAMES else None} for n in names
        ]
        body = json.dumps({"object": "list", "data": data}).encode()
        half = len(body) // 2
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body[:half], "more_body": True})
        await send({"type": "http.response.body", "body": body[half:]})

    return engine


def test_models_lists_each_by_both_names_with_its_digest():
    door = served(cards(*NAMES, "one@1111", "two@2222", "hidden@3333"))
    listed = call("GET", "/v1/models", door=door).json()["data"]
    assert [(c["id"], c["digest"]) for c in listed] == [
        ("nano", BASE), ("nano@bbbb", BASE), ("one", ONE), ("one@1111", ONE), ("two", TWO), ("two@2222", TWO),
    ]  # fmt: skip
    assert {c["max_model_len"] for c in listed} == {9}
    assert {c["parent"] for c in listed[2:]} == {"nano"}


def test_without_adapters_the_list_is_the_engine_s_own():
    listed = call("GET", "/v1/models", door=opened(engine=cards("x"), names=NAMES, digest=BASE)).json()["data"]
    assert listed == [{"id": "x", "root": "/models/x", "parent": None, "max_model_len": None}]


def test_of_a_stored_answer_no_digest_is_told():
    door = served()
    assert "x-model-digest" not in call("GET", "/v1/responses/resp_1", door=door).headers
    assert call("POST", LISTING, door=door, headers=OURS, json={"adapters": []}).status_code == 200
    assert "x-model-digest" not in call("GET", "/v1/responses/resp_1", door=door).headers  # it may be of one before


def test_no_client_chooses_among_the_engines_of_a_port():
    seen = []

    async def engine(scope, receive, send):
        if scope["path"] == CHAT:
            seen.append(dict(scope["headers"]).get(RANK_HEADER))
        await echo(scope, receive, send)

    door, chosen = served(engine), {RANK_HEADER.decode(): "1", "authorization": OURS["authorization"]}
    call("POST", CHAT, door=door, headers=chosen, json={"model": "one", "messages": TURNS})
    call("POST", CHAT, door=door, headers={**chosen, **OURS}, json={"model": "nano", "messages": TURNS})
    assert seen == [None, b"1"]


def test_what_is_no_list_of_models_passes():
    routes = Routes(NAMES, BASE)
    for body in (b"x", b"[]", b'{"data": [1]}', b'{"data": 1}'):
        assert routes.models(body) == body
    with pytest.raises(ValueError, match="digest"):
        routes.put(b'{"adapters": [{"name": "a", "engine": "b", "digest": ""}]}')
    assert routes.adapters == ()
    routes.put(json.dumps({"adapters": ADAPTERS}).encode())
    assert routes.adapters[0] == Listed(name="one", engine="one@1111", digest=ONE)
