import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from serve.cli import main
from serve.command import Options


def serve(*words, **env):
    return CliRunner().invoke(main, words, env=env)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "no-such-folder"], "holds no finished checkpoint"),
        (["preflight", "no-such-folder"], "tune export"),
        (["command", "no-such-folder"], "holds no finished checkpoint"),
        (["run", "x", "--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY is empty"),
        (["run", "x", "--port", "99999"], "--port"),
        (["run", "x", "--default-effort", "high", "--max-effort", "low"], "above the maximum"),
        (["run", "x", "--recipe", "no-such.toml"], "tune init"),
        (["run", "x", "--", "--api-key", "sk-1"], "--api-key-env"),
        (["ask", "http://127.0.0.1:1", "hi"], "does not answer"),
        (["wait", "http://127.0.0.1:1", "--timeout", "0"], "Connection refused"),
        (["wait", "127.0.0.1:8000"], "is not a URL"),
    ],
)
def test_bad_input_is_one_message_and_exit_2(words, says):
    out = serve(*words)
    assert out.exit_code == 2, out.output
    assert says in out.output
    assert "Traceback" not in out.output


def test_a_recipe_gives_defaults_and_options_win(tmp_path, monkeypatch):
    from serve.cli import _options

    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[serve]\ndefault_effort = "high"\nmax_model_len = 512\n')
    given = {"api_key_env": "", "max_effort": "high", "spelling": "strict", "recipe": recipe}
    options = _options(default_effort=None, max_model_len=None, **given)
    assert isinstance(options, Options)
    assert (options.policy.default, options.max_model_len) == ("high", 512)
    options = _options(default_effort="low", max_model_len=99, **given)
    assert (options.policy.default, options.max_model_len) == ("low", 99)


def test_help_needs_none_of_the_heavy_libraries():
    code = """
import sys
from click.testing import CliRunner
from serve.cli import main
for words in ([], ["run"], ["preflight"], ["command"], ["ask"], ["wait"]):
    assert CliRunner().invoke(main, [*words, "--help"]).exit_code == 0
print([m for m in ("pydantic", "httpx", "openai", "torch", "vllm", "openai_harmony") if m in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []
