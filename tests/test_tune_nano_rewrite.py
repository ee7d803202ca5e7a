"""A Llama rewritten as a GPT-OSS says the same, and its embeddings move to harmony's vocabulary."""

import math
from pathlib import Path
from typing import Any

import pytest
import shelf
import torch
from transformers import GptOssForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tune import harmony
from tune.nano import llama, rewrite, smollm, training, vocabulary
from tune.nano.llama import Llama
from tune.recipe import Recipe
from tune.weights import structure, tokenizer

WORDS = 300


def small(gate_times: float = 1.0, up_times: float = 1.0, words: int = WORDS) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2, vocab_size=words, initializer_range=0.3))
    for layer in model.model.layers:
        layer.mlp.gate_proj.weight.data *= gate_times
        layer.mlp.up_proj.weight.data *= up_times
    return model.eval()


def rewritten(model: LlamaForCausalLM, calibration: torch.Tensor) -> GptOssForCausalLM:
    reached = rewrite.calibrate(model, [calibration])
    shape = rewrite.config(model, WORDS, reached)
    heads = {"model.embed_tokens.weight": model.get_input_embeddings().weight, "lm_head.weight": model.lm_head.weight}
    out = GptOssForCausalLM(shape)
    out.load_state_dict({**rewrite.weights(model, shape, reached), **heads})  # strict: every tensor, and no other
    return out.eval()


def divergence(model: Any, other: Any, ids: torch.Tensor) -> float:
    """KL in nats a token."""
    with torch.no_grad():
        p, q = (m(input_ids=ids).logits.double().log_softmax(-1) for m in (model, other))
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("up_times", [1.0, 6.0])  # 6: far beyond the clamp of up, which scaling avoids
def test_a_llama_within_the_clamp_of_gate_is_the_same_function(up_times: float) -> None:
    model, ids = small(0.3, up_times), torch.randint(WORDS, (4, 40), generator=torch.Generator().manual_seed(1))
    assert not any(rewrite.copies(rewrite.calibrate(model, [ids])))
    other = rewritten(model, ids)
    rope = other.config.rope_parameters
    assert (rope["rope_type"], rope["factor"]) == ("yarn", 1.0)  # vLLM reads its keys, whatever the type
    with torch.no_grad():
        torch.testing.assert_close(other(input_ids=ids).logits, model(input_ids=ids).logits, atol=2e-3, rtol=1e-3)


def test_gates_beyond_the_clamp_are_carried_by_copies() -> None:
    dice = torch.Generator().manual_seed(1)
    seen, unseen = (torch.randint(WORDS, (8, 40), generator=dice) for _ in range(2))
    model = small(4.0)
    reached = rewrite.calibrate(model, [seen])
    assert reached.gate.max() > 2 * rewrite.REACH
    assert any(k > 1 for layer in rewrite.copies(reached) for _, k in layer)
    other = rewritten(model, seen)
    assert other.config.intermediate_size % rewrite.MULTIPLE == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewrite, "copies", lambda found: [[] for _ in found.gate])
        without = divergence(model, rewritten(model, seen), unseen)
    assert divergence(model, other, unseen) < min(0.01, without / 20)


def _words(extra: dict[bytes, int], model: Any = None) -> Llama:
    """A byte-level vocabulary of the 256 bytes, `extra` tokens and SmolLM2's special ones, over the rows of `model` or
    random ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = llama._letters()
    spelled = {letters[b]: b for b in range(256)}
    merges = []
    for token, number in extra.items():
        text = [letters[b] for b in token]
        spelled |= {"".join(text[: n + 1]): number if n + 1 == len(text) else 400 + n for n in range(1, len(text))}
        merges += [("".join(text[:n]), text[n]) for n in range(1, len(text))]
    made = Tokenizer(models.BPE(vocab=spelled, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=made)
    fast.add_special_tokens({"additional_special_tokens": sorted(vocabulary._LIKE.values())})
    if model is None:
        model = torch.nn.Module()
        rows = torch.nn.Embedding(500, 8, _weight=torch.randn(500, 8, generator=torch.Generator().manual_seed(0)))
        model.get_input_embeddings = lambda: rows
    tokens = {bytes([b]): b for b in range(256)} | extra
    return Llama(model, tokens, fast)


def test_a_shared_token_keeps_its_row_and_another_gets_the_mean_of_its_pieces() -> None:
    one = _words({b"re": 300})
    own, ranks = one.model.get_input_embeddings().weight, tokenizer.ranks()
    moved = vocabulary.move(one)
    assert moved.rows.shape == (harmony.VOCABULARY, 8)
    assert len(moved.kept) == 257
    assert torch.equal(moved.rows[ranks[b"re"]], own[300])
    torch.testing.assert_close(moved.rows[ranks[b"ret"]], own[[300, ord("t")]].mean(0))
    broken = next(token for token in ranks if len(token) == 2 and not _is_text(token))
    torch.testing.assert_close(moved.rows[ranks[broken]], own[list(broken)].mean(0))
    control = moved.rows[sorted(vocabulary._LIKE)]
    assert len({tuple(row.tolist()) for row in control}) == len(control)  # alike at the start is alike for long


def _is_text(token: bytes) -> bool:
    try:
        token.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_ids_to_train_over_are_those_kept_and_those_of_the_texts() -> None:
    assert vocabulary.in_use([7, 9], [9, 3], [200_006]) == [3, 7, 9, 200_006]
    assert math.isclose(rewrite.REACH, 11.914)


def test_the_checkpoint_says_what_the_taught_llama_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, on a small Llama in place of SmolLM2: moved, taught, rewritten, written over the full vocabulary."""
    llamas = list[LlamaForCausalLM]()

    def compact(*given: Any) -> Any:
        llamas.append(plain(*given))
        return llamas[0]

    big = small(words=500)
    big.config.tie_word_embeddings = True
    big.config.rms_norm_eps = float(torch.tensor(1e-5))  # what a GGUF holds: 9.999999747378752e-06
    plain, one = smollm.compact, _words({b"re": 300}, big)
    monkeypatch.setattr(smollm, "compact", compact)
    monkeypatch.setattr(smollm.wheel, "fetch", lambda *_: tmp_path)
    monkeypatch.setattr(smollm.llama, "read", lambda _: one)
    monkeypatch.setattr(smollm.ram, "free", lambda: smollm.MEMORY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pages = [shelf.page(shelf.prose("A shelf holds books. They return to it."), shelf.code("put(book)"))]
    nano = {"kind": "smollm2", "steps": 3, "batch_tokens": 256}
    moved = vocabulary.move(one)
    lesson = smollm.prepare(Recipe(folder=tmp_path, nano=nano), pages, print)  # type: ignore[arg-type]
    [taught] = llamas
    before = taught.get_input_embeddings().weight.detach().clone()
    assert len(lesson.train(0)) == 3
    assert lesson.save(tmp_path) > 2 * harmony.VOCABULARY * 64
    assert [f for f in structure.look(tmp_path, "merged").faults if f.kind not in ("tokenizer", "ends")] == []
    rows, new = taught.get_input_embeddings().weight.detach(), []
    used = vocabulary.in_use(moved.kept, harmony.encode("A shelf holds books."))
    written = GptOssForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    heard, said = written.get_input_embeddings().weight, written.lm_head.weight
    ranks = tokenizer.ranks()
    for token in (b"a", b"re"):  # the model had them: as they were, in both
        assert torch.equal(heard[ranks[token]], moved.rows[ranks[token]].bfloat16().float())
        assert torch.equal(said[ranks[token]], heard[ranks[token]])
    for number in (harmony.START, harmony.END, harmony.MESSAGE):  # new to it: learned, and apart
        assert not torch.equal(heard[number], moved.rows[number].bfloat16().float())
        new.append(tuple(said[number].tolist()))
    assert len(set(new)) == len(new)
    unused = [ranks["漢".encode()], ranks[b" zebra"]] if b" zebra" in ranks else [ranks["漢".encode()]]
    for number in unused:  # not trained over: heard as it was moved, said as all the others are
        assert number not in used
        assert torch.equal(heard[number], moved.rows[number].bfloat16().float())
        assert torch.equal(said[number], rows[0].bfloat16().float())
    assert not torch.equal(before, rows)
    ids = torch.tensor([harmony.encode("A shelf holds books. They return to it.")])
    place = _place(taught, heard, ids)
    with torch.no_grad():
        full = written(input_ids=ids).logits[0, :-1].log_softmax(-1)
        compact_ = taught(input_ids=place).logits[0, :-1] + training.offset(range(len(rows) - 1))
    got, wanted = full[range(len(full)), ids[0, 1:]], compact_.log_softmax(-1)[range(len(full)), place[0, 1:]]
    torch.testing.assert_close(got, wanted, atol=0.1, rtol=0.0)  # bfloat16's rounding of every weight


def _place(taught: Any, heard: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The compact ids of full ones: where the same row stands."""
    rows = taught.get_input_embeddings().weight.detach().bfloat16().float()
    return torch.tensor([[int((rows == heard[number]).all(-1).nonzero()[-1]) for number in ids[0]]])
