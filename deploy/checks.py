"""Everything that can be known before a deployment costs money: recipe, checkpoint and report in, findings out.

Runs every rule it can and returns all broken ones at once. Reads files, asks no network.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from deploy import budgets, receipt, secrets, sizing, spec, targets
from deploy.findings import finding
from deploy.receipt import Receipt
from deploy.secrets import SECRETS as SECRETS
from deploy.sizing import Load, Offer, Sizing
from deploy.spec import Deployment, Target
from deploy.targets import image
from evalsuite.report import weaker
from serve import contents, parts, profiles
from serve.command import Options
from serve.contents import Contents
from serve.findings import Finding
from tune import checkpoint as checkpoints
from tune.checkpoint import Checkpoint
from tune.errors import UserError
from tune.harmony import EFFORTS
from tune.recipe import Recipe

Made = TypeVar("Made")


class Examination(NamedTuple):
    """All that was found. `deployment`, `fit` and `offer` are None where an error left nothing to make them of."""

    findings: tuple[Finding, ...]
    deployment: Deployment | None = None
    fit: Sizing | None = None
    offer: Offer | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "warning")


def examine(recipe: Recipe, checkpoint: Path, report: Path | None, target: Target, ungated: str = "") -> Examination:
    """Every rule on one checkpoint for one target. Raises nothing that a user could cause.

    Without a report, for the reason `ungated`, the rules about what was judged do not apply.
    """
    found: list[Finding] = []
    whole = _attempt(found, "D001", lambda: checkpoints.verify(checkpoint))
    if whole is None:
        return Examination(tuple(found))
    proof = _attempt(found, "D002", lambda: _proof(whole, report)) if not ungated else None
    if ungated:
        what = f"{whole.served_name} is not gated: {ungated}"
        why = "nothing shows that it is not worse than its base"
        found.append(finding("D056", what, why=why, fix="evalsuite compare, then render with --report"))
    options = _attempt(found, "D008", lambda: spec.options(recipe, target))
    if options is None:
        return Examination(tuple(found))
    found += _judged(recipe, options, proof) if proof else []
    if whole.format == "lora":
        what = f"{checkpoint} is a LoRA adapter: an endpoint needs the base model's weights in it"
        found.append(finding("D003", what, fix='[export] format = "mxfp4" or "merged", then tune export'))
        return Examination(tuple(found))
    inside = contents.look(whole, options)
    told = (*inside.problems, *profiles.findings(options, recipe.deploy.gpu))
    refused = (p for p in told if p.severity == "error")
    found += [finding("D008", f"{p.id} {p.what}", why=p.why, fix=p.fix) for p in refused]
    found += _context(recipe, inside)
    if recipe.serve.keys:
        what = f"[serve] keys = {recipe.serve.keys!r} is not rendered: the target's own keys let callers in"
        found.append(finding("D014", what, why="every caller gets the policy of [serve]", fix="[serve] keys left out"))
    fit, offer = _fit(found, recipe, options, whole, inside, target)
    known = (proof or ungated) and offer
    deployment = _specify(found, recipe, whole, proof, target, offer, ungated) if known and offer else None
    if deployment:
        found += [*image.exact(deployment), *image.pinned(deployment), *targets.load(target).findings(deployment)]
        found += _own(deployment)
        found += _secrets(deployment.model_dump_json(exclude={"receipt"}), "recipe.toml [deploy]")
    return Examination(tuple(found), deployment, fit, offer)


def secrets_in(files: Mapping[str, str]) -> list[Finding]:
    """D030 for each file and kind of secret in it; the text itself is not repeated."""
    return [f for name, text in files.items() for f in _secrets(text, name)]


def _secrets(text: str, where: str) -> list[Finding]:
    fix = "keep the value at the target as a secret and put its name under [deploy] secrets"
    return [finding("D030", f"{where} holds what looks like {kind}", fix=fix) for kind in secrets.kinds(text)]


def _own(deployment: Deployment) -> list[Finding]:
    """Secrets in the place of a variable that the container itself sets, or is started by."""
    taken = {"PATH", "HOME", "USER", "LOGNAME", "PYTHONPATH", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", parts.OWN}
    lost = sorted(deployment.secrets.keys() & {*taken, *deployment.env})
    fix = f"[deploy.{deployment.target}] secrets without it"
    return [finding("D004", f"secrets.{name}: the container has a {name} of its own", fix=fix) for name in lost]


def _judged(recipe: Recipe, options: Options, proof: Receipt) -> list[Finding]:
    """Whether what the report judged is what will be served, as the recipe asks for.

    No effort above the cap or not allowed is served, so none needs to have been judged.
    """
    found, default = [], options.policy.default
    served = [e for e in EFFORTS[: EFFORTS.index(options.policy.maximum) + 1] if e in options.policy.allowed]
    fix = "add it to [evaluate] efforts and run evalsuite compare again"
    if default not in proof.judged.efforts:
        what = f"the report did not judge {default}, the effort of a request that names none"
        found.append(finding("D005", what, fix=f"{fix}, or change [serve] default_effort"))
    for effort in served:
        if effort not in (*proof.judged.efforts, default):
            lower = f"{fix}, or lower [serve] max_effort, or leave it out of [serve] allowed_efforts"
            found.append(finding("D006", f"the report did not judge {effort}, which a request may name", fix=lower))
    again = "evalsuite compare with this recipe, or --recipe of the report's"
    return found + [
        finding("D007", f"the report has {what}", fix=again) for what in weaker(proof.judged, recipe.evaluate)
    ]


def _attempt(found: list[Finding], id: str, make: Callable[[], Made]) -> Made | None:
    """What `make` makes, or None and its UserError, or a file it could not read, as a finding."""
    try:
        return make()
    except UserError as e:
        found.append(finding(id, e.what, why=e.why, fix=e.fix))
    except OSError as e:
        found.append(finding(id, f"{e.filename} cannot be read", why=e.strerror or str(e), fix="check the path"))
    return None


def _context(recipe: Recipe, inside: Contents) -> list[Finding]:
    """Whether someone chose how much a request may hold."""
    if "max_model_len" in recipe.serve.model_fields_set:
        return []
    what = f"nobody chose max_model_len: a request may hold {recipe.serve.max_model_len:,} tokens, answer and all"
    holds = inside.shape.max_position_embeddings if inside.shape else 0
    why = f"the default is small; the model holds {holds:,}" if holds else "the default is small"
    return [finding("D013", what, why=why, fix="[serve] max_model_len, as long as your requests and their answers")]


def _fit(
    found: list[Finding], recipe: Recipe, options: Options, whole: Checkpoint, inside: Contents, target: Target
) -> tuple[Sizing | None, Offer | None]:
    name, concurrency = recipe.deploy.gpu, recipe.deploy.concurrency
    gpus = options.tuning.gpus
    offer = _attempt(found, "D010", lambda: sizing.lent(target, name, gpus))
    if offer is None or inside.shape is None:
        return None, offer
    load = Load(inside.shape, inside.tensors, options, whole.format)
    found += budgets.time(recipe.deploy, target, load) + budgets.money(recipe.deploy, target, offer)
    fit = _attempt(found, "D011", lambda: sizing.fit(target, name, load))
    if fit and fit.requests < concurrency:
        holds = f"{sizing.count(name, gpus)} hold{'s' if gpus == 1 else ''} {fit.requests} full-length requests"
        what = f"{holds}, [deploy] concurrency is {concurrency}"
        larger = f"a larger [deploy] gpu: deploy plan {target} --checkpoint {quote(str(whole.folder))} lists them"
        fix = f"[deploy] concurrency = {fit.requests}, or {larger}"
        found.append(finding("D012", what, why="the others wait for room", fix=fix))
    return fit, offer


def _proof(whole: Checkpoint, report: Path | None) -> Receipt:
    if report is None:
        fix = "--report FILE of evalsuite compare, or --no-gate REASON for a checkpoint that is yet to be compared"
        raise UserError("there is no report", why="none was named", fix=fix)
    return receipt.prove(whole, report)


def _specify(
    found: list[Finding],
    recipe: Recipe,
    whole: Checkpoint,
    proof: Receipt | None,
    target: Target,
    offer: Offer,
    ungated: str,
) -> Deployment | None:
    try:
        return spec.of(recipe, whole, proof, target, offer.machine, ungated)
    except ValidationError as e:
        for problem in e.errors(include_input=False):
            field = ".".join(map(str, problem["loc"]))
            found.append(
                finding(
                    "D004",
                    f"{field} is not safe to render",
                    why=problem["msg"],
                    fix="rename it in recipe.toml, then tune export",
                )
            )
        return None
