"""`evalsuite bench` and `evalsuite calibrate`: a load test, and what its client measures of a known server."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from evalsuite.commands.options import CLIENTS, KEYS, MODELS, PATH, Amount, endpoint
from tune.terminal import note, one_line, say, tell

if TYPE_CHECKING:
    from evalsuite.speed.bench import Bench
    from evalsuite.speed.client import Target

LENGTH = click.IntRange(1, 131_072)  # of an answer: what GPT-OSS takes, prompt and answer together
TIME = Amount(0, min_open=True)


@click.command()
@click.option("--base", default="", metavar="URL", help="The endpoint, …/v1.")
@click.option("--tuned", default="", metavar="URL", help="A second endpoint: blocks alternate, ratios are paired.")
@KEYS[0]
@KEYS[1]
@MODELS[0]
@MODELS[1]
@CLIENTS[0]
@CLIENTS[1]
@click.option(
    "--blocks", type=click.IntRange(1), default=6, show_default=True, help="Runs of the load an endpoint gets."
)
@click.option("--requests", type=click.IntRange(1), help="Requests a block.  [default: 32, or the whole trace]")
@click.option("--rate", type=Amount(0.001), help="Offer so many requests a second (open loop).")
@click.option("--concurrency", type=click.IntRange(1), help="Or keep so many in flight (closed loop).  [default: 4]")
@click.option("--trace", type=PATH, help="Or offer them at the moments in this file, in seconds, one a line.")
@click.option("--arrivals", type=click.Choice(["closed", "poisson", "constant", "trace"]),
              help="How requests come.  [default: poisson at a --rate, closed without one]")  # fmt: skip
@click.option("--prompts", type=PATH, metavar="FILE.jsonl", help='Your own, {"prompt": "..."} a line.')
@click.option("--prompt-tokens", default="128-384", show_default=True, metavar="N[-M]",
              help="Length of the others, drawn evenly; each begins as no other does.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**53), help="Of prompts and arrivals.  [default: another for every "
              "run, since a server's prefix cache may hold the prompts of the last]")  # fmt: skip
@click.option("--max-tokens", type=LENGTH, default=128, show_default=True, help="Tokens of one answer.")
@click.option("--effort", default="low", show_default=True, help="Reasoning effort of every request.")
@click.option("--slo-ttft-ms", type=TIME, help="Goodput: share of requests with a first "
              "token within this.")  # fmt: skip
@click.option("--slo-tpot-ms", type=TIME, help="Goodput: and with so much time an output "
              "token at most.")  # fmt: skip
@click.option("--engine", type=click.Choice(["vllm", "guidellm", "aiperf"]), help="Ask this tool, too, and show its "
              "figures beside ours: a table. All blocks are one run then.")  # fmt: skip
@click.option("--engine-bin", type=PATH, help="Its program.  [default: $EVALSUITE_VLLM and so on, else from PATH]")
@click.option("--json", "as_json", is_flag=True, help="With --engine: JSON, too.")
def bench(
    base: str,
    tuned: str,
    base_key_env: str,
    tuned_key_env: str,
    base_model: str,
    tuned_model: str,
    base_client: Path | None,
    tuned_client: Path | None,
    rate: float | None,
    concurrency: int | None,
    trace: Path | None,
    prompts: Path | None,
    seed: int | None,
    slo_ttft_ms: float | None,
    slo_tpot_ms: float | None,
    engine: str | None,
    engine_bin: Path | None,
    as_json: bool,
    **load: Any,
) -> None:
    """Measure latency and throughput of one endpoint, or of two side by side. JSON; exit 3 when void.

    With --engine a second tool measures the same endpoint under the same load.
    """
    from evalsuite.speed import prompts as texts
    from evalsuite.speed import schedule
    from evalsuite.speed.bench import bench as work
    from evalsuite.speed.load import resolve
    from evalsuite.speed.metrics import Slo

    one = endpoint("base", base, base_model, base_key_env, base_client)
    other = None
    if tuned or tuned_client:
        other = endpoint("tuned", tuned, tuned_model, tuned_key_env, tuned_client)
    if rate is None and trace is None and concurrency is None and load["arrivals"] in {None, "closed"}:
        concurrency = 4
    texts.bounds(load["prompt_tokens"])
    own = texts.read(prompts) if prompts else None
    moments = schedule.trace(trace) if trace else ()
    most = {"ttft_s": slo_ttft_ms, "tpot_s": slo_tpot_ms}
    seed = texts.drawn() if seed is None else seed
    if engine_bin and not engine:
        raise click.UsageError("--engine-bin is of --engine: name the tool.")
    if engine:
        if other or trace or any(most.values()):
            raise click.UsageError("--engine goes without --tuned, --trace and service levels.")
        if one.headers:
            raise click.UsageError("--engine goes without headers: the tools know one key alone.")
        target = resolve(one, "base", note)
        _second(engine, engine_bin, target, rate, concurrency, own, seed, load, as_json)
    made = work(
        resolve(one, "base", note),
        resolve(other, "tuned", note) if other else None,
        rate=rate,
        concurrency=concurrency,
        trace=moments,
        prompts=own,
        seed=seed,
        slo=Slo(**{k: ms and ms / 1000 for k, ms in most.items()}) if any(most.values()) else None,
        report=say,
        **load,
    )
    tell(made.model_dump_json(indent=1))
    _end(made)


def _second(
    engine: str,
    program: Path | None,
    target: "Target",
    rate: float | None,
    concurrency: int | None,
    prompts: Sequence[str] | None,
    seed: int,
    load: dict[str, Any],
    as_json: bool,
) -> NoReturn:
    """Both measure `target`: a table, or JSON, and the exit code of ours."""
    from evalsuite.speed.engines import run, second
    from evalsuite.speed.load import load as offered

    pair = second.second(
        engine,
        run.installed(engine, program),
        target,
        offered(rate, concurrency, load["arrivals"], effort=load["effort"]),
        requests=load["blocks"] * (load["requests"] or 32),
        prompts=prompts,
        seed=seed,
        report=say,
        **{name: load[name] for name in ("prompt_tokens", "max_tokens", "effort")},
    )
    tell(pair.model_dump_json(indent=1) if as_json else second.table(pair))
    _end(pair.bench)


def _end(made: "Bench") -> NoReturn:
    """With why it is void, where it is, on standard error: the figures may go to a file."""
    if made.void:
        note(one_line(f"void, so the figures say nothing: {'; '.join(made.void)}", 1000))
    sys.exit(made.exit_code)


@click.command()
@click.option("--streams", type=click.IntRange(1), multiple=True, help="Requests in flight; may be repeated.  "
              "[default: 1, 16, 64, 256]")  # fmt: skip
@click.option("--ttft-ms", type=Amount(0), default=10.0, show_default=True, help="True time to first token.")
@click.option("--gap-ms", type=Amount(0), default=20.0, show_default=True, help="True time between tokens.")
@click.option("--tokens", type=LENGTH, default=32, show_default=True, help="Tokens of one answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def calibrate(streams: tuple[int, ...], ttft_ms: float, gap_ms: float, tokens: int, as_json: bool) -> None:
    """Show what `bench` would measure of a server whose latency is known, and at how many streams it measures itself.

    The server is the bundled stub, in a process of its own on this machine.
    """
    from evalsuite.speed import calibrate as calibration

    found = calibration.calibrate(
        streams or (1, 16, 64, 256), ttft_s=ttft_ms / 1000, gap_s=gap_ms / 1000, tokens=tokens
    )
    tell(found.model_dump_json(indent=1) if as_json else calibration.table(found))
