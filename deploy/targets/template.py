"""Fill one of a target's jinja templates; a name that is not given is an error, not an empty string."""

import shlex
from importlib.resources import files

from deploy.spec import CUDA, ROOT, Deployment
from deploy.targets import Context
from tune.artefact import VERSION


def fill(name: str, deployment: Deployment, context: Context, **more: str) -> str:
    """Text of `deploy/targets/<name>`. `| sh` quotes one shell word. `more`: words that one target's template has."""
    import jinja2

    env = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  # Markdown and Dockerfiles, not HTML
        loader=jinja2.FunctionLoader(lambda path: files("deploy.targets").joinpath(path).read_text(encoding="utf-8")),
    )
    env.filters["sh"] = shlex.quote
    known = {"d": deployment, "at": context, "version": VERSION, "root": ROOT, "cuda": CUDA}
    return env.get_template(name).render(**known, **more)


def verbatim(name: str) -> str:
    """Text of `deploy/targets/<name>` as it is: a real file, linted and tested where it lies."""
    return files("deploy.targets").joinpath(name).read_text(encoding="utf-8")
