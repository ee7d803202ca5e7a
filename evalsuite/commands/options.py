"""Options that several commands take, and the recipe they name."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from evalsuite.asking.endpoint import Endpoint
    from tune.recipe import Recipe

PATH = click.Path(path_type=Path)
RECIPE = click.option("--recipe", "path", type=PATH, default=Path("recipe.toml"), show_default=True,
                      help="Its [evaluate] section says what is asked and when a model passes.")  # fmt: skip
KEYS = (
    click.option("--base-key-env", default="", metavar="NAME", help="Variable that holds the base endpoint's key."),
    click.option("--tuned-key-env", default="", metavar="NAME", help="Variable that holds the tuned endpoint's key."),
)
MODELS = (
    click.option("--base-model", default="", metavar="ID", help="Of several that the base endpoint lists."),
    click.option("--tuned-model", default="", metavar="ID", help="Of several that the tuned endpoint lists."),
)

CLIENTS = tuple(
    click.option(f"--{arm}-client", type=PATH, metavar="FILE",
                 help=f"Instead of these: a JSON file of `deploy client`, how the {arm} endpoint is reached.")
    for arm in ("base", "tuned")
)  # fmt: skip


def endpoint(arm: str, url: str, model: str, key_env: str, client: Path | None) -> "Endpoint":
    """The one that an arm's options name, in either way."""
    from evalsuite.asking import client_info
    from evalsuite.asking.endpoint import Endpoint

    if client and (url or model or key_env):
        raise click.UsageError(f"--{arm}-client stands for --{arm}, --{arm}-model and --{arm}-key-env: leave them out.")
    if not (client or url):
        raise click.UsageError(f"Missing option '--{arm}'.")
    return client_info.read(client).endpoint if client else Endpoint(url=url, model=model, key_env=key_env)


class Amount(click.FloatRange):
    """A number within bounds: click lets nan, which is in no range, through every one of them, and inf through most."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value!r} is no amount.", param, ctx)
        return found


def read_recipe(path: Path) -> "Recipe":
    from tune import recipe

    return recipe.read(path)
