"""How far an engine is from the log-probabilities of the checkpoint it serves, against what rounding alone does to it.

    serve run FOLDER --raw-completions --port 8000 &
    python benchmarks/canary_noise.py FOLDER http://127.0.0.1:8000/v1

Prints a line an effort: mean difference in nats a token, the same over the canary's own `rounding`, and the largest.
`serve run` refuses an engine that is more than four times its checkpoint's rounding away, and 0.05.
"""

from pathlib import Path

import click

from serve import probe
from tune import checkpoint, harmony


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("url")
def main(folder: Path, url: str) -> None:
    found = checkpoint.read(folder)
    canary = checkpoint.canary(found)
    with probe.client(url) as http:
        for effort, wanted in canary.logprobs.items():
            ids = harmony.render_prompt(harmony.PROBE, effort, found.prompt_date)
            got = probe.prompt_logprobs(http, found.served_name, ids)
            apart = [abs(g - w) for g, w in zip(got, wanted, strict=True)]
            mean = sum(apart) / len(apart)
            print(
                f"{effort}: {mean:.4f} nats, {mean / canary.rounding:.2f} times its rounding, at most {max(apart):.2f}"
            )


if __name__ == "__main__":
    main()
