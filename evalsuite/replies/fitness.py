"""Whether two servers can be compared on these questions: whom and what a run asks in, the reasons against it out.

What is unknown is no reason. Whatever differs between the arms beside the weights may be what a comparison shows, and
where it is seen it has to be meant:

- Two versions of an engine sample, stop and parse otherwise: unlike, unless the run allows it. A base at a hosted
  provider against a tuned model on a vLLM of one's own is a comparison that a team may want. Most providers say no
  version, so nothing is shown to be unlike; where both say one, --allow-unlike-servers says that it is meant. A
  recipe can forbid it: [evaluate] allow_unlike_servers = false.
- A context that cannot hold a prompt and its reply refuses or cuts what the other arm may answer: never allowed.
- Digests are held against each other, and against ids, before this (server.same, asking/check.py). A header from one
  side alone is unknown on the other.

Settings that no server shows, such as its flags, are not seen here. Pure.
"""

from collections.abc import Sequence

from evalsuite.questions import QuestionSet
from evalsuite.replies.answers import Meta
from tune.evaluate import tokens_at
from tune.section import EffortName


def unlike(asked: Meta) -> str:
    """In what the two servers differ that is not the model, or ""."""
    base, tuned = (asked.servers[arm].engine for arm in ("base", "tuned"))
    return f"base is served by engine version {base}, tuned by {tuned}" if base and tuned and base != tuned else ""


def unfit(questions: QuestionSet, efforts: Sequence[EffortName], asked: Meta, may_be_unlike: bool = True) -> list[str]:
    """Why asking these servers these questions would show nothing about the models. `may_be_unlike`: whether a run may
    allow it, and else what it allowed says nothing."""
    out = [_short(arm, server.max_model_len, questions, efforts, asked) for arm, server in asked.servers.items()]
    if not (asked.unlike_allowed and may_be_unlike) and (why := unlike(asked)):
        way = "or compare with --allow-unlike-servers" if may_be_unlike else "for allow_unlike_servers is false"
        out.insert(0, f"{why}: serve both with one version, {way}")
    return [why for why in out if why]


def _short(arm: str, length: int | None, questions: QuestionSet, efforts: Sequence[EffortName], asked: Meta) -> str:
    """A prompt has a token a word at least, whatever the tokenizer: what is called too short is."""
    words = max((len(f"{q.developer} {q.prompt}".split()) for q in questions.judged), default=0)
    limit, effort = max(((tokens_at(asked.sampling.max_tokens, e), e) for e in efforts), default=(0, ""))
    if length is None or length >= words + limit:
        return ""
    return (
        f"{arm} is served with max_model_len {length}, and the longest question needs at least {words} tokens and its "
        f"reply at effort {effort} up to {limit}: serve it with --max-model-len {words + limit} or more, or lower "
        "max_tokens in [evaluate]"
    )
