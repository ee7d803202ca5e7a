"""What a GPU's engine is asked before the first client may come in."""

import json

import httpx
import pytest
import supervised
from checkpoints import fill, finish
from test_serve_jobs import CPU, GPU, OPTIONS

from serve import jobs, preflight
from serve.warming import ANSWER, LONGEST, PROMPT, Wave, warm, waves


@pytest.mark.parametrize(
    ("room", "longest", "ordinary"),
    [(131_072, LONGEST, PROMPT), (2048, 2048 - ANSWER, PROMPT), (ANSWER + 1, 1, 1)],
)
def test_waves_fit_the_context(room, longest, ordinary):
    assert waves(room) == (*(Wave(n, ordinary) for n in (1, 2, 4, 8, 16, 32)), Wave(1, longest))


def test_where_no_answer_fits_nothing_is_asked():
    assert waves(ANSWER) == ()


def test_no_two_prompts_begin_alike():
    asked = []

    def engine(request):
        asked.append(json.loads(request.content)["prompt"])
        return httpx.Response(200, json={})

    with httpx.Client(base_url="http://engine", transport=httpx.MockTransport(engine)) as http:
        warm(http, "m", waves(2048))
    assert [len(prompts) for prompts in asked] == [n for n in (1, 2, 4, 8, 16, 32, 1) for _ in range(2)]
    totals = [sum(map(len, prompts)) for prompts in asked]
    assert [total % 16 == 0 for total in totals] == [True, False] * 7  # Triton has kernels for both
    prompts = [tuple(prompt) for prompts in asked for prompt in prompts]
    assert len({prompt[:4] for prompt in prompts}) == len(prompts) == 128
    assert all(0 <= token < 199_998 for prompt in prompts for token in prompt)


@pytest.mark.parametrize(("machine", "wanted"), [(CPU, ()), (GPU, waves(OPTIONS.max_model_len))])
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
