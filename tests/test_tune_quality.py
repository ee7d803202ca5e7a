from tune.data import quality, twins
from tune.harmony import Message

LONG = "the quick brown fox jumps over the lazy dog while seven small cats watch from the garden wall in silence"


def talk(answer="An answer.", thinking="A thought.", question="Why?"):
    return [Message(role="user", content=question), Message(role="assistant", content=answer, thinking=thinking)]


def test_what_cannot_be_learned_from_is_named():
    assert quality.problem(talk()) == ""
    assert quality.problem(talk(answer=" ")) == "empty"
    assert quality.problem(talk(question="\n")) == "empty"
    assert quality.problem(talk()[:1]) == "empty"
    assert quality.problem(talk(thinking=None)) == "no analysis"
    assert quality.problem(talk(thinking="  ")) == "no analysis"
    assert quality.problem(talk(answer="x")) == "short"
    assert quality.problem(talk(answer="x" * 7000)) == "long"


def test_control_tokens_spelled_in_text_are_seen():
    assert quality.spells_control("a <|end|> b")
    assert quality.spells_control("<|reserved_200014|>")
    assert not quality.spells_control("a <| end |> b <|x|> <end>")


def test_near_duplicates_go_and_the_first_stays():
    texts = [LONG, LONG.replace("silence", "peace"), LONG.upper() + "!", "something else", "Something  else"]
    assert quality.near_duplicates(texts) == [1, 2, 4]


def test_questions_that_differ_in_one_name_are_different():
    texts = [
        f"What is the default value of the parameter `key` of `heapq.{f}`? None" for f in ("nlargest", "nsmallest")
    ]
    assert quality.near_duplicates(texts) == []
    assert quality.near_duplicates(["f(a, *, b)", "f(a, /, b)"]) == []


def test_prefix_filtering_finds_what_comparing_all_pairs_finds():
    words = LONG.split()
    texts = [" ".join(words[i:] + words[:j]) for i in range(0, 8) for j in range(0, 8)]
    sets = [frozenset(one.tolist()) for one in twins.shingled(texts).each()]
    slow, kept = [], []
    for i in range(len(texts)):
        mine = sets[i]
        if any(twins.alike(mine, sets[j]) for j in kept):
            slow.append(i)
        else:
            kept.append(i)
    assert len(slow) > 10
    assert quality.near_duplicates(texts) == slow


def test_contamination_is_a_whole_short_question_or_thirteen_words_of_a_long_one():
    question = "What does heapq.merge return?"
    texts = [
        "Someone asked: what does HEAPQ.merge\nreturn? An iterator.",
        "What does heapq.merge accept?",
        "In the yard " + " ".join(LONG.split()[3:16]) + " indeed",
        "In the yard " + " ".join(LONG.split()[3:15]) + " indeed",
    ]
    assert quality.contaminated(texts, [question, LONG]) == [0, 2]
    assert quality.contaminated(texts, ["?"]) == []
