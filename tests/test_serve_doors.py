"""Who comes in: keys, paths, methods, and nobody before the server is proven."""

import asyncio

import pytest
from door import KEY, OURS, WORD, call, echo, opened

from serve.doors import APIS, OPENING, SECRET_HEADER, SERVED
from serve.middleware import SECRET, Door, Settings

PREFLIGHT = {"origin": "https://example.org", "access-control-request-method": "POST"}


@pytest.mark.parametrize("path", [*APIS, "/invocations", "/tokenize", "/metrics", "/v1/models", "/no-such"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"authorization": "Bearer "},
        {"x-api-key": KEY},
    ],
)
def test_every_path_wants_the_key(path, headers):
    if APIS.get(path) == "messages" and "x-api-key" in headers:
        headers = {"x-api-key": f"{KEY}x"}
    answer = call("POST", path, headers=headers, json={})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEY not in answer.text


def test_two_keys_in_one_request_are_refused():
    headers = [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer other")]
    assert call("GET", "/v1/models", headers=headers).status_code == 401
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        for also in ("other", KEY):
            both = [("authorization", f"Bearer {KEY}"), ("x-api-key", also)]
            assert call("POST", path, headers=both, json={}).status_code == 401


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_the_anthropic_api_takes_its_own_header_and_answers_with_its_own_errors(path):
    assert call("POST", path, headers={"x-api-key": KEY}, json={}).status_code == 200
    assert call("POST", path, json={}).status_code == 200
    stranger = call("POST", path, headers={"x-api-key": "x"}, json={})
    assert (stranger.json()["type"], stranger.json()["error"]["type"]) == ("error", "authentication_error")
    wrong = call("POST", path, json={"output_config": {"effort": "ultra"}}).json()
    assert (wrong["type"], wrong["error"]["type"]) == ("error", "invalid_request_error")
    assert wrong["error"]["param"] == "output_config.effort"


CLOSED = ["/invocations", "/tokenize", "/v1/messages/batches", "/inference/v1/generate", "/scale_elastic_ep", "/docs"]
CLOSED += ["/v1/chat/completions/", "//v1/chat/completions", "/v1/chat/completions/batch"]


@pytest.mark.parametrize("path", CLOSED)
def test_paths_that_pass_by_the_policy_are_closed(path):
    answer = call("POST", path, json={"messages": []})
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_door_that_nobody_could_open_fails_at_once(monkeypatch):
    monkeypatch.delenv(SECRET, raising=False)
    with pytest.raises(RuntimeError, match="never become ready"):
        Door(echo)


STRANGERS = [{}, {"authorization": f"Bearer {KEY}"}, {SECRET_HEADER.decode(): "wrong"}, {SECRET_HEADER.decode(): ""}]


@pytest.mark.parametrize("headers", STRANGERS)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "TRACE"])
def test_a_closed_door_is_closed_for_everyone_on_every_path(method, headers):
    for path in (*SERVED - {"/livez"}, OPENING, "/v1/responses/resp_1", "/no-such"):
        door = Door(echo, Settings(), KEY, WORD)
        answer = call(method, path, door=door, headers={**headers, **PREFLIGHT})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), path
        assert not door.doors.ready
        assert WORD not in answer.text
        if method != "HEAD":
            assert answer.json()["error"]["code"] == "not_ready"
    assert call("GET", "/livez", door=door, headers=headers).status_code == 200


def test_the_secret_of_the_start_passes_the_closed_door_and_opens_it():
    door = Door(echo, Settings(), KEY, WORD)
    for path in ("/health", "/readyz", "/v1/models", "/metrics"):
        assert call("GET", path, door=door, headers=OURS).status_code == 200
    assert call("POST", "/v1/chat/completions", door=door, headers=OURS, json={}).status_code == 200
    assert call("GET", "/health", door=door).status_code == 503  # asking opened nothing
    assert call("GET", OPENING, door=door, headers=OURS).status_code == 404  # a POST opens
    without_key = {SECRET_HEADER.decode(): WORD}
    assert call("POST", OPENING, door=door, headers=without_key).status_code == 401
    assert call("GET", "/ping", door=door).status_code == 503
    assert call("POST", OPENING, door=door, headers=OURS).status_code == 200
    for path in ("/health", "/readyz", "/ping"):
        assert call("GET", path, door=door, key="").status_code == 200


@pytest.mark.parametrize("headers", [STRANGERS[1], {**OURS, SECRET_HEADER.decode(): "wrong"}])
def test_the_opening_is_no_path_to_anyone_else(headers):
    answer, unknown = (call("POST", path, headers=headers) for path in (OPENING, "/serve/none"))
    assert answer.status_code == unknown.status_code == 404
    assert answer.text == unknown.text.replace("/serve/none", OPENING)


def test_the_secret_goes_no_further_than_the_door():
    seen = []

    async def engine(scope, receive, send):
        seen.extend(scope["headers"])
        await echo(scope, receive, send)

    answer = call("POST", "/v1/chat/completions", door=Door(engine, Settings(), KEY, WORD), headers=OURS, json={})
    assert seen
    assert WORD not in f"{seen} {answer.headers} {answer.text}"


@pytest.mark.parametrize("path", ["/metrics", "/v1/models", "/v1/chat/completions", "/metrics/x", "/tokenize"])
def test_only_a_cors_preflight_is_free_of_the_key_and_it_reaches_no_route(path):
    for name in PREFLIGHT:
        assert call("OPTIONS", path, headers={name: PREFLIGHT[name]}).status_code == 401
    assert call("OPTIONS", path, headers={}).status_code == 401
    answer = call("OPTIONS", path, headers=PREFLIGHT)
    assert (answer.status_code, answer.headers["x-path"]) == (200, "/preflight")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "CONNECT", "get", "X"])
@pytest.mark.parametrize(
    "path", ["/metrics", "/v1/models", "/load", "/v1/responses/x", "/health/", "//health", "/%2e/health"]
)
def test_no_method_and_no_spelling_of_a_path_goes_without_the_key(method, path):
    preflight = {} if method == "OPTIONS" else PREFLIGHT
    answer = call(method, path, headers=preflight)
    assert answer.status_code == 401
    assert "x-path" not in answer.headers


ODD = ["/metrics/", "//metrics", "/%2e/metrics", "/v1/responses/render/", "/v1/responses/x/y", "/metrics/x"]
ODD += ["/v1/responses/..%2f..%2fmetrics", "/v1/responses//cancel"]


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_spellings_of_a_path_are_no_path_with_the_key_too(method, path):
    assert call(method, path, json={}).status_code == 404


def test_a_root_path_changes_nothing():
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "root_path": "/api", "path": "/api/metrics", "headers": []}
    asyncio.run(opened()(scope, None, send))
    assert sent[0]["status"] == 401


def test_a_websocket_is_closed():
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/realtime", "headers": [(b"authorization", f"Bearer {KEY}".encode())]}
    asyncio.run(opened()(scope, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
