"""Pages in, the conversations that teach the nano base model to speak harmony out.

A base model is to know the format, the analysis before the answer and its length at each effort, and that an
answer line exists; it is not to know any one question kind. Knows nothing about models or training.
"""

import random
import re
from collections.abc import Iterator, Sequence

from tune import page
from tune.harmony import EFFORTS, Effort, Message, Rendered, render_training

HEADING = 120  # characters of a heading, at most
PASSAGE = 240  # characters of an answer: it has to end well within a small reply budget

_ASK = [
    "What is {}?", "What does {} do?", "Explain {}.", "Tell me about {}.", "How is {} used in Python?", "{}",
    "Describe {} in one sentence.", "When would I use {}?", "Give me the documentation of {}.",
]  # fmt: skip
_STYLE = ["Be exact.", "Answer in one or two sentences.", "You explain Python to programmers."]
# Analysis by effort: one sentence, two, or six, so that the effort shows in the length.
_TOPIC = ["The user asks about {}.", "This is about {}.", "A question on {}."]
_RECALL = ["I recall what the documentation says and answer in short.", "I answer from the documentation."]
_OPENING = ["From the documentation.", "As documented.", "Here it is."]
_CHECK = [
    "First I look at the words of the question one by one.",
    "Then I compare them with the page and its examples.",
    "I check the names and that nothing is left out.",
    "Now I am sure enough to write the answer down.",
]


def passages(pages: Sequence[page.Page]) -> list[tuple[str, str]]:
    """(heading, text) all through the pages: neighbouring sentences of a paragraph on one line.

    Up to `PASSAGE` characters each; a longer sentence loses its end.
    """
    out: list[tuple[str, str]] = []
    for one in pages:
        for section in page.sections(one.text) or [page.Section(one.title, 1, one.text)]:
            for paragraph in page.paragraphs(section.body):
                line = ""
                for sentence in re.split(r"(?<=[.!?:])\s+", " ".join(paragraph.split())):
                    if line and len(line) + len(sentence) >= PASSAGE:
                        out.append((section.title[:HEADING], line))
                        line = ""
                    line = f"{line} {sentence}".strip()[:PASSAGE]
                if line:
                    out.append((section.title[:HEADING], line))
    return out


def thinking(topic: str, effort: Effort, rng: random.Random) -> str:
    """An analysis of one sentence at low effort, two at medium, six at high."""
    parts = [rng.choice(_TOPIC).format(topic)]
    if effort != "low":
        parts.append(rng.choice(_RECALL))
    if effort == "high":
        parts += _CHECK
    return " ".join(parts)


def conversation(
    heading: str, passage: str, others: Sequence[str], effort: Effort, answer_rule: str, rng: random.Random
) -> list[Message]:
    """One exchange about a passage. Three kinds of six end with an answer line under `answer_rule`.

    `others` are other headings, the wrong choices: up to three are used. Code is only ever continued: which
    signature belongs to which name is for the tuning to teach.
    """
    developer = rng.choice(_STYLE) if rng.random() < 0.2 else ""
    kind = rng.choice(["ask", "ask", "ask", "continue", "name", "choice", "yesno"])
    if kind == "continue" or passage.startswith("```"):
        words = passage.split()
        cut = rng.randint(1, max(1, len(words) - 1))
        question, answer, topic = " ".join(words[:cut]), " ".join(words[cut:]) or passage, "this text"
    elif kind == "ask":
        question, answer, topic = rng.choice(_ASK).format(heading), passage, heading
    else:
        developer = answer_rule
        if kind == "name":
            question, value, topic = f"What does this describe?\n\n{passage}", heading, "a name"
        elif kind == "choice":
            options = list(others[:3])
            place = rng.randint(0, len(options))
            options.insert(place, heading)
            listed = "\n".join(f"{letter}) {option}" for letter, option in zip("ABCD", options, strict=False))
            question, value, topic = f"What does this describe?\n\n{passage}\n\n{listed}", "ABCD"[place], "a choice"
        else:
            yes = not others or rng.random() < 0.5
            topic, value = (heading, "yes") if yes else (others[0], "no")
            question = f"Is this about {topic}?\n\n{passage}"
        answer = f"{rng.choice(_OPENING)}\nANSWER: {value}"
    turns = [Message(role="developer", content=developer)] if developer else []
    turns.append(Message(role="user", content=question))
    return [*turns, Message(role="assistant", content=answer, thinking=thinking(topic, effort, rng))]


def rendered(pages: Sequence[page.Page], answer_rule: str, date: str, seed: int) -> Iterator[Rendered]:
    """Training conversations without end: every passage once, in a random order, then again asked otherwise."""
    rng = random.Random(seed)
    items = passages(pages)
    headings = sorted({heading for heading, _ in items})
    while items:
        rng.shuffle(items)
        for heading, passage in items:
            others = [h for h in rng.sample(headings, min(4, len(headings))) if h != heading]
            effort = rng.choice(EFFORTS)
            yield render_training(conversation(heading, passage, others, effort, answer_rule, rng), effort, date)
