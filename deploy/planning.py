"""What `deploy plan` says: recipe and checkpoint in; size, start and cost out, before anything is rendered."""

from datetime import date
from pathlib import Path

from deploy import sizing, startup
from deploy.sizing import Choice, Part, Sizing
from deploy.spec import Target, options
from deploy.startup import Startup
from serve import profiles
from serve.findings import require
from tune import checkpoint
from tune.recipe import Recipe


class Plan(Part):
    """`dated`: when the price table was made; no price in it is live. `month`: US dollars of the fewest and of the most
    replicas, running all the time; None where no price is known."""

    target: Target
    model: str
    hosts: int  # of one replica
    dated: date
    chosen: Sizing
    startup: Startup
    cost: str
    month: tuple[int, int] | None
    choices: tuple[Choice, ...]


def plan(recipe: Recipe, folder: Path, target: Target) -> Plan:
    """Raises UserError when the recipe's GPU does not do."""
    whole, name = checkpoint.read(folder), recipe.deploy.gpu
    takes = sizing.load(whole, options(recipe, target))
    require(list(profiles.findings(takes.options, name)), f"[deploy] gpu = {name!r}")
    sized = sizing.fit(target, name, takes)
    offer = sizing.lent(target, name, takes.options.tuning.gpus)
    least, most = sizing.replicas(target, recipe.deploy)
    return Plan(
        target=target,
        model=whole.served_name,
        hosts=takes.options.tuning.hosts,
        dated=sizing.hardware().dated,
        chosen=sized,
        startup=startup.estimate(target, takes),
        cost=sizing.cost(offer, least, most),
        month=sizing.month(offer, least, most),
        choices=tuple(sizing.choices(target, takes)),
    )
