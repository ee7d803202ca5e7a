"""Does an engine compute what the checkpoint says? The next token after each prompt, by the engine and by transformers.

    python benchmarks/engine_parity.py FOLDER URL

URL is a vLLM that serves FOLDER (/v1/completions takes token ids; `serve run --raw-completions` opens it). For every
prompt both give the log-probabilities of the next token; printed are how often the most likely token is the same, and
the largest difference on it.
"""

import json
import platform
import urllib.request
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch

QUESTIONS = (
    "What is json?",
    "How do I sort a list?",
    "What does len return?",
    "Is 17 prime?",
    "Explain heapq.merge.",
    "hi",
)


def prompts(day: str) -> list[list[int]]:
    """Each question at each effort, up to where the analysis begins."""
    from tune import harmony

    opened = [harmony.CHANNEL, *harmony.encode("analysis"), harmony.MESSAGE]
    turns = [[harmony.Message(role="user", content=q)] for q in QUESTIONS]
    return [harmony.render_prompt(t, effort, day) + opened for t in turns for effort in harmony.EFFORTS]


def by_transformers(folder: Path, asked: list[list[int]]) -> list[torch.Tensor]:
    """float32 [vocabulary] log-probabilities a prompt, on a GPU when there is one."""
    from tune.training import loading

    model = loading.load(folder, dtype=torch.bfloat16)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    with torch.no_grad():
        return [
            model(torch.tensor([ids], device=model.device)).logits[0, -1].float().log_softmax(-1).cpu() for ids in asked
        ]


def by_engine(url: str, model: str, ids: list[int]) -> tuple[int, float]:
    """The engine's most likely next token and its log-probability."""
    answer = get(
        f"{url}/completions",
        {
            "model": model,
            "prompt": ids,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "return_tokens_as_token_ids": True,
        },
    )
    said = answer["choices"][0]["logprobs"]["top_logprobs"][0]
    token, value = max(said.items(), key=lambda item: item[1])
    return int(token.removeprefix("token_id:")), value


def get(url: str, body: dict[str, Any] | None = None) -> Any:
    """One JSON answer."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read())


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("url")
@click.option("--date", "day", default="2026-01-01", show_default=True, help="The date line of the prompts.")
def main(folder: Path, url: str, day: str) -> None:
    """Compare the engine at URL with transformers on the checkpoint in FOLDER."""
    asked, url = prompts(day), url.rstrip("/")
    model = get(f"{url}/models")["data"][0]["id"]
    same, worst = 0, 0.0
    for ids, theirs in zip(asked, by_transformers(folder, asked), strict=True):
        token, value = by_engine(url, model, ids)
        same += token == int(theirs.argmax())
        worst = max(worst, abs(value - float(theirs[token])))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    print(f"{date.today()}, {folder.name} on {device}, torch {torch.__version__}")
    print(f"same next token {same} of {len(asked)}, largest log-probability difference on it {worst:.4f}")


if __name__ == "__main__":
    main()
