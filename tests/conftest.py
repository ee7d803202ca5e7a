"""Fixtures that more than one test file needs. The path is made, and the engine started, once a session."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engine
import pytest
from hypothesis import settings
from story import Endpoints, Story, commands, smaller

HERE = Path(__file__).parent
# What is named after our code: an image, a ConfigMap, a pod's template.
BY_CODE = re.compile(
    r"([:\"][0-9a-f]{16}-|\bpython-docs-)([0-9a-f]{8}|[0-9a-f]{10})\b|(kit/template\": \")([0-9a-f]{16})"
)
SHARED = re.compile(r"mark\.engine|\b(?:story|endpoints)\b")
# How long an example takes says nothing of the code. CI draws the same ones each time: new ones are for whoever can
# mend what they find, and a change is not red for what another one brought.
settings.register_profile("any machine", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("any machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With more than one process: each file in one, and those that share the story's path and engine in the same."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "story" if SHARED.search((HERE.parent / file).read_text(encoding="utf-8")) else file

    return Scheduling(config, log)


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare text with tests/golden/NAME; GOLDEN=write rewrites it, to be read in the diff. What names an image by our
    code, and a ConfigMap by that image, stands there as dots: it is another with each change of code."""

    def check(name: str, text: str) -> None:
        path = HERE / "golden" / name
        if name.startswith("deploy/"):
            text = BY_CODE.sub(lambda m: f"{m[1] or m[3]}{'.' * len(m[2] or m[4])}", text)
        if os.environ.get("GOLDEN") == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The demo's path from `tune init` to both exports, on a nano from a random start: three minutes, or half a one
    when it is cached. The default nano is seen by `make demo` alone."""
    made = Story(tmp_path_factory.mktemp("story"), {})
    steps = commands()
    made.run(steps[0])
    recipe = made.folder / "recipe.toml"
    recipe.write_text(smaller(recipe.read_text()))
    for command in steps[1 : steps.index("tune export --format merged") + 1]:
        made.run(command)
    return made


@pytest.fixture(scope="session")
def endpoints(story: Story) -> Iterator[Endpoints]:
    """Base and tuned on the real engine, through `serve run`: about a minute."""
    with engine.running(story.folder / "work/nano", story.folder / "work/merged") as (base, tuned):
        yield Endpoints(base, tuned)
