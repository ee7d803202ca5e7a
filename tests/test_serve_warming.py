"""What a GPU's engine is asked before the first client may come in."""

import json

import httpx
import pytest
import supervised
from checkpoints import CONFIG, fill, finish
from test_serve_jobs import CPU, GPU, OPTIONS

from serve import jobs, preflight
from serve.warming import ANSWER, LONGEST, PROMPT, Wave, kernels, steps, warm, waves


@pytest.mark.parametrize(
    ("room", "step", "longest", "ordinary"),
    [
        (131_072, 16_384, LONGEST, PROMPT),
        (131_072, 2048, 2048, PROMPT),
        (2048, 8192, 2048 - ANSWER, PROMPT),
        (17, 8192, 1, 1),
    ],
)
def test_waves_fit_the_context_and_the_engine_s_step(room, step, longest, ordinary):
    sent = waves(room, step, 32)
    assert sent[:6] == tuple(Wave(n, ordinary) for n in (1, 2, 4, 8, 16, 32))
    assert {wave.prompts for wave in sent[6:]} == {1}
    assert max(wave.tokens for wave in sent[6:]) == longest


def test_where_no_answer_fits_nothing_is_asked():
    assert waves(ANSWER, 8192, 32) == ()


@pytest.mark.parametrize("experts", [4, 32, 128])
@pytest.mark.parametrize("longest", [1, 40, 600, LONGEST])
def test_no_step_brings_a_kernel_that_none_of_few_prompts_did(longest, experts):
    tried = steps(longest, experts)
    had = frozenset().union(*(kernels(tokens, experts) for tokens in tried))
    for tokens in range(1, longest + 1):
        assert kernels(tokens, experts) <= had, tokens
    assert len(tried) <= 24
    assert all(1 <= tokens <= longest for tokens in tried)


@pytest.mark.parametrize("experts", [32, 128])
def test_longer_steps_bring_nothing_more(experts):
    had = frozenset().union(*(kernels(tokens, experts) for tokens in range(1, LONGEST + 1)))
    assert all(kernels(tokens, experts) <= had for tokens in range(LONGEST, 4 * LONGEST))


@pytest.mark.parametrize(
    ("tokens", "height", "tiles"),
    [
        (1, 16, 4),
        (8, 16, 32),
        (9, 16, 32),
        (128, 16, 62),
        (129, 16, 62),
        (136, 32, 48),
        (256, 32, 63),
        (512, 64, 63),
        (8192, 128, 287),
    ],
)
def test_tiles_are_counted_as_the_kernels_count_them(tokens, height, tiles):
    """32 experts, 4 of them a token: worked out by hand from RoutingData.n_blocks."""
    ((_, high, _, kind),) = [name for name in kernels(tokens, 32) if name[0] == "into"]
    assert (high, kind) == (height, 16 if tiles % 16 == 0 else 0)


def test_no_two_prompts_begin_alike():
    asked = []

    def engine(request):
        asked.append(json.loads(request.content)["prompt"])
        return httpx.Response(200, json={})

    sent = waves(2048, 8192, 32)
    with httpx.Client(base_url="http://engine", transport=httpx.MockTransport(engine)) as http:
        warm(http, "m", sent)
    assert [(len(prompts), *{len(prompt) for prompt in prompts}) for prompts in asked] == list(sent)
    long = [tuple(prompt) for prompts in asked for prompt in prompts if len(prompt) > 3]
    assert len({prompt[:4] for prompt in long}) == len(long) > 63
    assert all(0 <= token < 199_998 for prompts in asked for prompt in prompts for token in prompt)


@pytest.mark.parametrize(
    ("machine", "wanted"), [(CPU, ()), (GPU, waves(OPTIONS.max_model_len, 8192, CONFIG["num_local_experts"]))]
)
def test_only_a_gpu_s_engine_is_warmed(tmp_path, machine, wanted):
    folder = fill(tmp_path / "one")
    finish(folder)
    found = preflight.check(folder, OPTIONS, machine)
    assert jobs.job(found, OPTIONS, key="", log=None, ready_timeout=1).waves == wanted


def test_it_is_warm_before_the_door_opens(tmp_path, monkeypatch):
    supervised.prepare(tmp_path, monkeypatch)
    job = supervised.make(tmp_path, "good", waves=(Wave(2, 5), Wave(1, 3)))
    assert supervised.Served(job, lambda _served: None).run()[:2] == ["starting", "ready"]
    said = (tmp_path / "log").read_text()
    assert "warmed by 2 of {5}, door open: False" in said
    assert "warmed by 1 of {3}, door open: False" in said
    assert supervised.left(tmp_path) == []
