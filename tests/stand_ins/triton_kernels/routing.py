"""Routing with one kernel, which knows the tokens of a step as theirs do: rounded up to 32 as a constant of its own."""

import torch
import triton
import triton.language as tl


@triton.jit
def _bits(out, stride: tl.constexpr, tokens):
    tl.store(out + stride * tl.program_id(0), tokens)


def routing(logits, chosen):
    tokens, experts = logits.shape
    out = torch.empty((tokens, experts, chosen), dtype=torch.int32)
    _bits[(1,)](out, -(-tokens // 32) * 32, tokens)
