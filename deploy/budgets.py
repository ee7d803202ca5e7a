"""What a deployment may take of time and money, held against what it is expected to take: findings out."""

from datetime import date

from deploy import sizing, startup
from deploy.findings import finding
from deploy.sizing import Load, Offer
from deploy.spec import Target
from serve.findings import Finding
from tune.deploy import Deploy

OLD_DAYS = 180  # prices change about so often


def time(section: Deploy, target: Target, load: Load) -> list[Finding]:
    """Whether a replica is given the time to start. An estimate is good to a factor: within it, it is a warning."""
    given, needs = section.startup_seconds, startup.estimate(target, load)
    what = f"startup_seconds = {given}, and a replica needs {needs.words}"
    enough = int(needs.seconds * startup.GOOD_TO)
    fix = f"[deploy] startup_seconds = {enough}"
    if given * startup.GOOD_TO < needs.seconds:
        why = "the target ends what has not answered by then, and starts it again: that never ends, and is billed"
        return [finding("D025", what, why=why, fix=fix)]
    if given < enough:
        why = f"the estimate is good to a factor of {startup.GOOD_TO:g}"
        return [finding("D026", what, why=why, fix=f'{fix}, or [serve] profile = "fast-start"')]
    return []


def money(section: Deploy, target: Target, offer: Offer) -> list[Finding]:
    """Whether it keeps within [deploy] monthly_usd: what is always on must, what may be on should."""
    if not section.monthly_usd:
        return []
    least, most = sizing.replicas(target, section)
    costs = sizing.month(offer, least, most)
    limit = f"[deploy] monthly_usd is {section.monthly_usd:,.0f}"
    if costs is None:
        what = f"{limit}, and no price of {offer.machine} is known here"
        return [finding("D071", what, fix="ask the provider before you start it")]
    always, at_most = costs
    if always > section.monthly_usd:
        what = f"{least} x {offer.machine}, always on, cost {always:,} USD a month, {limit}"
        return [finding("D070", what, fix="a lower min_replicas, a smaller [deploy] gpu, or a higher monthly_usd")]
    if at_most > section.monthly_usd:
        what = f"{most} x {offer.machine}, on all the time, would cost {at_most:,} USD a month, {limit}"
        return [finding("D071", what, fix="a lower max_replicas, or an alarm on the bill at the provider")]
    return []


def prices(today: date) -> list[Finding]:
    """Whether the table of GPUs and prices is so old that it misleads."""
    days = (today - sizing.hardware().dated).days
    if days <= OLD_DAYS:
        return []
    what = f"prices, regions and GPUs are {days} days old (table of {sizing.hardware().dated})"
    return [finding("D072", what, fix="update gptoss-kit, or look the machine up at the provider")]
