"""Pages in, the conversations that teach the nano base model to speak harmony out.

A base model is to know the format, the analysis before the answer and its length at each effort, and that an
answer line exists; it is not to know any one question kind. Knows nothing about models or training.
"""

import random
import re
from collections.abc import Iterator, Sequence

from tune.data import page
from tune.harmony import EFFORTS, RANKS, Effort, Message, Rendered, decode, render_training

HEADING = 120  # characters of a heading, at most
PASSAGE = 120  # characters of an answer: short enough to end before a model this small runs in circles
STRAY = 0.25  # share of the questions that is stray text

_ASK = [
    "What is {}?", "What does {} do?", "Explain {}.", "Tell me about {}.", "How is {} used in Python?", "{}",
    "Describe {} in one sentence.", "When would I use {}?", "Give me the documentation of {}.",
]  # fmt: skip
_STYLE = ["Be exact.", "Answer in one or two sentences.", "You explain Python to programmers."]
_OPENING = ["From the documentation.", "As documented.", "Here it is."]
# Analysis by effort. One text an effort and nothing of the question in it: how long a reply thinks follows from the
# effort alone, in a model far too small to copy a name.
_THINKING: dict[Effort, str] = {
    "low": "Quick: a short answer will do.",
    "medium": "Let me think. The user wants an answer from the documentation, so I recall it and answer in short.",
    "high": (
        "Carefully now, step by step. First, which words does the question use? Second, what do the pages say of each "
        "of these words, and what do their examples show? Third, is some name wrong, or is anything left out? Fourth, "
        "would another reader agree? All of that holds, so the answer can be written down."
    ),
}


def passages(pages: Sequence[page.Page]) -> list[tuple[str, str]]:
    """(heading, text) all through the pages: neighbouring sentences of a block on one line.

    Up to `PASSAGE` characters each; a longer sentence loses its end.
    """
    out: list[tuple[str, str]] = []
    for one in pages:
        for block in one.blocks:
            heading, line = block.headings[-1][:HEADING], ""
            for sentence in re.split(r"(?<=[.!?:])\s+", " ".join(block.render().split())):
                if line and len(line) + len(sentence) >= PASSAGE:
                    out.append((heading, line))
                    line = ""
                line = f"{line} {sentence}".strip()[:PASSAGE]
            if line:
                out.append((heading, line))
    return out


def thinking(effort: Effort) -> str:
    """The analysis of an effort: 8 tokens at low, 22 at medium, 70 at high."""
    return _THINKING[effort]


def stray(rng: random.Random) -> str:
    """Text that no page holds: up to 40 tokens drawn from the whole vocabulary."""
    return decode(rng.choices(range(RANKS), k=rng.randint(1, 40)))


def conversation(
    heading: str,
    passage: str,
    others: Sequence[str],
    effort: Effort,
    answer_rule: str,
    rng: random.Random,
    *,
    stray_share: float = STRAY,
) -> list[Message]:
    """One exchange about a passage. Three kinds of seven end with an answer line, and those alone are under
    `answer_rule`: a base that has seen the rule broken breaks it, and what tuned then gains is the rule.

    `others` are other headings, the wrong choices: up to three are used. Code is only ever continued: which
    signature belongs to which name is for the tuning to teach. A share of the questions is stray text: from a random
    start, the format of a reply must follow from the format of the prompt, and from nothing that is asked.
    """
    developer = rng.choice(["", rng.choice(_STYLE)])
    kind = rng.choice(["ask", "ask", "ask", "continue", "name", "choice", "yesno"])
    if kind == "continue" or passage.startswith("```"):
        words = passage.split()
        cut = rng.randint(1, max(1, len(words) - 1))
        question, answer = " ".join(words[:cut]), " ".join(words[cut:]) or passage
    elif kind == "ask":
        question, answer = rng.choice(_ASK).format(heading), passage
    else:
        developer = answer_rule
        if kind == "name":
            question, value = f"What does this describe?\n\n{passage}", heading
        elif kind == "choice":
            options = list(others[:3])
            place = rng.randint(0, len(options))
            options.insert(place, heading)
            listed = "\n".join(f"{letter}) {option}" for letter, option in zip("ABCD", options, strict=False))
            question, value = f"What does this describe?\n\n{passage}\n\n{listed}", "ABCD"[place]
        else:
            yes = not others or rng.random() < 0.5
            topic, value = (heading, "yes") if yes else (others[0], "no")
            question = f"Is this about {topic}?\n\n{passage}"
        answer = f"{rng.choice(_OPENING)}\nANSWER: {value}"
    if rng.random() < stray_share:
        question = stray(rng)
    turns = [Message(role="developer", content=developer)] if developer else []
    turns.append(Message(role="user", content=question))
    return [*turns, Message(role="assistant", content=answer, thinking=thinking(effort))]


def rendered(
    pages: Sequence[page.Page], answer_rule: str, date: str, seed: int, *, stray_share: float = STRAY
) -> Iterator[Rendered]:
    """Training conversations without end: every passage once, in a random order, then again asked otherwise."""
    rng = random.Random(seed)
    items = passages(pages)
    headings = sorted({heading for heading, _ in items})
    while items:
        rng.shuffle(items)
        for heading, passage in items:
            others = [h for h in rng.sample(headings, min(4, len(headings))) if h != heading]
            effort = rng.choice(EFFORTS)
            turns = conversation(heading, passage, others, effort, answer_rule, rng, stray_share=stray_share)
            yield render_training(turns, effort, date)


def enough(
    pages: Sequence[page.Page], answer_rule: str, date: str, seed: int, tokens: int, *, stray_share: float = STRAY
) -> list[Rendered]:
    """As many of them as have `tokens` tokens together."""
    rows, seen = [], 0
    for one in rendered(pages, answer_rule, date, seed, stray_share=stray_share):
        rows.append(one)
        seen += len(one.ids)
        if seen >= tokens:
            break
    return rows
