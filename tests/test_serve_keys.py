"""keys.toml: who is let in, with which policy, and what becomes of requests while the file changes."""

import hashlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from click.testing import CliRunner
from door import KEY, OURS, WORD, call, echo, opened
from hypothesis import given
from hypothesis import strategies as st

from serve import keys
from serve.cli import main
from serve.doors import OPENING
from serve.effort import EffortPolicy
from serve.keys import SETTLED, Keys
from serve.middleware import Door, Settings
from tune.errors import UserError

POLICY = EffortPolicy(thinking_tokens={"high": 900})


def lines(name, **more):
    text = "".join(f"{field} = {value}\n" for field, value in more.items())
    return f'[[key]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n{text}'


def put(path, text):
    """Write a file as it should be written: whole, at once; and long ago, so that it counts as settled."""
    aside = path.with_suffix(".new")
    aside.write_text(text)
    os.utime(aside, (1, 1))
    aside.replace(path)
    return path


def held_by(file, *tokens):
    return [(found.name if (found := file.find(token.encode())) else None) for token in tokens]


@pytest.fixture
def path(tmp_path):
    return put(tmp_path / "keys.toml", lines("a", max_effort='"low"') + lines("b", thinking_tokens="{ high = 9 }"))


def test_each_key_has_its_own_policy_within_the_server_s(path):
    file = Keys(path, POLICY)
    assert held_by(file, "a", "b", "c", "", "A") == ["a", "b", None, None, None]
    assert (file.find(b"a").policy.maximum, file.find(b"a").policy.default) == ("low", "low")
    assert file.find(b"b").policy == EffortPolicy(thinking_tokens={"high": 9})


def test_a_key_s_other_efforts_are_refused_where_its_maximum_would_lower(path):
    put(path, lines("a", allowed_efforts='["low"]') + lines("b", max_effort='"low"'))
    door = opened(keys=str(path))
    body = {"messages": [], "reasoning_effort": "high", "model": "m"}
    refused = call("POST", "/v1/chat/completions", door=door, key="a", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "reasoning_effort")
    assert "not one of low, none, minimal" in refused.json()["error"]["message"]
    body["messages"] = [{"role": "user", "content": "x"}]
    assert call("POST", "/v1/chat/completions", door=door, key="b", json=body).json()["reasoning_effort"] == "low"


SECRET = "sk-in-the-clear"
BROKEN = {
    "": "key: Field required",
    "key = []": "at least 1",
    "[[key]": "at line 1",
    "key = 3": "key: ",
    f'[[key]]\nname = "a"\nsha256 = "{SECRET}"': "key.1.sha256: ",
    f'[[key]]\nname = "a"\nkey = "{SECRET}"': "key.1.",
    f"{SECRET} = 1\n{lines('a')}": "?: Extra inputs",
    lines("a", thinking_tokens=f'{{ "{SECRET}" = 3 }}'): "key.1.thinking_tokens.?",
    f'[[key]]\nname = "{SECRET} {SECRET}"\nsha256 = "{"0" * 64}"': "key.1.name: ",
    lines("a") + lines("a"): "same name",
    lines("env"): "key.1.name: Value error, env is what metrics and the log call the key of --api-key-env",
    lines("a") + lines("b").replace(hashlib.sha256(b"b").hexdigest(), hashlib.sha256(b"a").hexdigest()): "same sha256",
    lines("a").replace(hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"").hexdigest()): "digest of nothing",
    lines("a") + lines("b", max_effort='"max"'): "key.2.max_effort: ",
    lines("a", default_effort='"high"', max_effort='"low"'): "a: default_effort high is above",
    lines("a", thinking_tokens="{ high = 901 }"): "a: thinking_tokens high = 901 is over the server's, 900",
    lines("a", thinking_tokens="{ high = 0 }"): "key.1.thinking_tokens.high: ",
    "#" * 2**20 + lines("a"): "over 1048576 bytes",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_refused_at_the_start_and_keeps_the_old_keys_later(path, text, caplog):
    file = Keys(path, POLICY)
    put(path, text)
    with pytest.raises(UserError) as error:
        keys.read(path, POLICY)
    assert BROKEN[text] in error.value.why
    assert SECRET not in f"{error.value.what} {error.value.why} {error.value.fix}"
    with caplog.at_level(logging.WARNING):
        assert held_by(file, "a", "b", "c") == ["a", "b", None]
        assert held_by(file, "a") == ["a"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1  # once a change, not once a request
    assert "stay valid" in said[0]
    assert BROKEN[text] in said[0]
    assert SECRET not in said[0]
    put(path, lines("c"))
    assert held_by(file, "a", "b", "c") == [None, None, "c"]


@pytest.mark.parametrize("text", ["[[key]", None])
def test_an_engine_that_restarts_on_a_broken_file_lets_nobody_in_until_it_is_whole(path, text, caplog):
    """What an earlier engine knew may have been taken out of the file since: a revoked key does not come back."""
    path.unlink()
    if text:
        put(path, text)
    file = Keys(path, POLICY)
    assert held_by(file, "a", "") == [None, None]
    assert "none of its keys is let in" in caplog.text
    put(path, lines("a"))
    assert held_by(file, "a", "b") == ["a", None]


def test_a_file_that_is_gone_keeps_its_keys_and_is_read_when_it_is_back(path, caplog):
    file = Keys(path, POLICY)
    path.unlink()
    assert held_by(file, "a") == ["a"]
    assert "cannot be read" in caplog.text
    put(path, lines("c"))
    assert held_by(file, "a", "c") == [None, "c"]


def test_a_file_that_is_being_written_is_left_alone_until_it_rests(path):
    """Cut between two keys it is whole TOML, with a key too few."""
    now = [1e9]
    file = Keys(path, POLICY, clock=lambda: now[0])
    with path.open("w") as f:
        f.write(lines("b"))
        f.flush()
        os.utime(path, (now[0], now[0]))
        assert held_by(file, "a", "b") == ["a", "b"]
        f.write(lines("a"))
    os.utime(path, (now[0], now[0]))
    now[0] += SETTLED / 2
    assert held_by(file, "a", "b", "c") == ["a", "b", None]
    now[0] += SETTLED
    path.write_text(path.read_text() + lines("c"))
    os.utime(path, (now[0] - SETTLED, now[0] - SETTLED))
    assert held_by(file, "a", "b", "c") == ["a", "b", "c"]


def test_a_change_that_keeps_size_and_time_is_seen(path):
    file = Keys(path, POLICY)
    put(path, lines("c", max_effort='"low"') + lines("b", thinking_tokens="{ high = 9 }"))
    assert held_by(file, "a", "c") == [None, "c"]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_keys_or_a_user_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    with pytest.raises(UserError):
        keys.read(path, POLICY)


def door_with(path, key="", policy=POLICY):
    door = Door(echo, Settings(policy=policy, keys=str(path)), key, WORD)
    door.doors.ready = True
    return door


def ask(door, key, body=None, **options):
    return call("POST", "/v1/chat/completions", door=door, key=key, json=body or {}, **options)


def test_the_door_applies_the_policy_of_the_key(path):
    door = door_with(path)
    low = ask(door, "a", {"reasoning_effort": "high"})
    assert low.json() == {"reasoning_effort": "low"}
    told = {"x-reasoning-effort-requested": "high", "x-reasoning-effort": "low"}
    assert told.items() <= low.headers.items()
    assert "x-reasoning-budget" not in low.headers
    assert ask(door, "b", {"reasoning_effort": "high"}).headers["x-reasoning-budget"] == "9"
    for stranger in ("", "c", hashlib.sha256(b"a").hexdigest()):
        assert ask(door, stranger).status_code == 401
    two = [("authorization", "Bearer a"), ("authorization", "Bearer b")]
    assert ask(door, "", headers=two).status_code == 401
    assert ask(door, "", headers={"authorization": "Basic a"}).status_code == 401


def test_the_single_key_stays_and_has_the_server_s_policy(path):
    door = door_with(path, key=KEY)
    assert ask(door, KEY, {"reasoning_effort": "high"}).headers["x-reasoning-budget"] == "900"
    assert ask(door, "a").headers["x-reasoning-effort"] == "low"
    assert ask(door, "c").status_code == 401


def test_the_supervisor_needs_no_key_of_the_file_and_its_secret_is_no_key_to_others(path):
    door = Door(echo, Settings(policy=POLICY, keys=str(path)), "", WORD)
    secret = {name: value for name, value in OURS.items() if name != "authorization"}
    assert ask(door, "", {"reasoning_effort": "high"}, headers=secret).headers["x-reasoning-budget"] == "900"
    assert call("POST", OPENING, door=door, headers={"authorization": "Bearer a"}).status_code == 503
    assert call("POST", OPENING, door=door, headers=secret).status_code == 200
    assert ask(door, "", headers={**secret, "x-serve-secret": "wrong"}).status_code == 401


def test_keys_are_exchanged_under_load_over_http_without_one_wrong_answer(path):
    """`stays` is in every file: it is never refused. Whoever asks after an exchange sees the new file."""
    put(path, lines("stays") + lines("old"))
    config = uvicorn.Config(door_with(path), port=0, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    over = threading.Event()

    def http():
        return httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False)

    def status(client, key):
        return client.post("/v1/chat/completions", json={}, headers={"authorization": f"Bearer {key}"}).status_code

    def load():
        with http() as client:
            seen = {status(client, "stays")}
            while not over.is_set():
                seen.add(status(client, "stays"))
            return seen

    with ThreadPoolExecutor(4) as pool, http() as client:
        loads = [pool.submit(load) for _ in range(4)]
        try:
            for turn in range(12):
                new, old = ("new", "old") if turn % 2 == 0 else ("old", "new")
                put(path, lines("stays") + lines(new))
                assert (status(client, new), status(client, old)) == (200, 401)
                put(path, '[[key]]\nname = "sta')
                assert (status(client, new), status(client, old)) == (200, 401)
                path.write_text(lines("other") + lines("stays"))  # in place: empty first, then whole, then settled
                assert status(client, "stays") == 200
        finally:
            over.set()
        assert [load.result() for load in loads] == [{200}] * 4
    server.should_exit = True
    thread.join()


def test_a_new_key_is_shown_once_and_its_lines_let_it_in(tmp_path):
    made = CliRunner().invoke(main, ["keys", "new", "batch"])
    assert made.exit_code == 0
    key = made.stderr.split()[0]
    assert key not in made.stdout
    path = put(tmp_path / "keys.toml", made.stdout + lines("other"))
    assert held_by(Keys(path, POLICY), key) == ["batch"]
    again = CliRunner().invoke(main, ["keys", "new", "batch"])
    assert again.stderr != made.stderr
    for name in 'x"\n', "env":
        refused = CliRunner().invoke(main, ["keys", "new", name])
        assert (refused.exit_code, refused.stdout) == (2, "")


def test_serve_run_refuses_keys_that_it_could_not_use(tmp_path):
    (tmp_path / "keys.toml").write_text("[[key]")
    for command in ("run", "preflight"):
        refused = CliRunner().invoke(main, [command, str(tmp_path), "--keys", str(tmp_path / "keys.toml")])
        assert refused.exit_code == 2
        assert "keys.toml holds no keys" in refused.output
    gone = CliRunner().invoke(main, ["run", str(tmp_path), "--keys", str(tmp_path / "none.toml")])
    assert (gone.exit_code, "none.toml cannot be read" in gone.output) == (2, True)


def test_a_recipe_names_its_keys_beside_itself_and_the_flag_wins(tmp_path, monkeypatch):
    from serve.cli import _options

    put(tmp_path / "keys.toml", lines("a"))
    put(tmp_path / "others.toml", lines("b"))
    (tmp_path / "recipe.toml").write_text('[serve]\nkeys = "keys.toml"\nthinking_tokens = { low = 5 }\n')
    told = {"recipe": tmp_path / "recipe.toml", "api_key_env": ""}
    assert _options(**told, keys=None).keys == str(tmp_path / "keys.toml")
    monkeypatch.chdir(tmp_path)
    assert _options(**told, keys="others.toml").keys == str(tmp_path / "others.toml")
    assert _options(**told, keys=None).policy.thinking_tokens == {"low": 5}
