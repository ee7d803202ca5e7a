import random

import numpy as np
import pytest

from tune.data import sides
from tune.errors import UserError


def text(seed, words=400):
    dice = random.Random(seed)
    return " ".join(f"w{dice.randrange(5000)}" for _ in range(words))


def with_other_end(whole, share, seed):
    """The same text up to its last part, which is replaced."""
    words = whole.split()
    kept = round(len(words) * share)
    return " ".join(words[:kept]) + " " + text(seed, len(words) - kept)


def groups(texts):
    return sides.groups(sides.signatures(texts))


def split(pages, share, seed):
    """train or eval by page, of pages by name with their groups."""
    places = np.array([sides.place(name, seed) for name in pages], np.uint64)
    held = sides.split(np.array([*pages.values()]), places, share)
    return {name: "eval" if one else "train" for name, one in zip(pages, held, strict=True)}


def each_alone(pages):
    return {name: n for n, name in enumerate(pages)}


def test_the_split_is_by_page_seeded_and_never_empty():
    pages = [f"p{i}" for i in range(100)]
    first = split(each_alone(pages), 0.1, 0)
    assert sorted(first.values()).count("eval") == 10
    assert split(each_alone(pages[::-1]), 0.1, 0) == first
    assert split(each_alone(pages), 0.1, 1) != first
    assert sorted(split(each_alone("ab"), 0.01, 0).values()) == ["eval", "train"]
    assert sorted(split(each_alone("ab"), 0.99, 0).values()) == ["eval", "train"]
    with pytest.raises(UserError, match="one page has all the examples: nothing to split"):
        split({"a": 0}, 0.1, 0)
    with pytest.raises(UserError, match="the 2 pages say nearly the same: nothing to split"):
        split({"a": 0, "b": 0}, 0.1, 0)


def test_a_group_is_on_one_side_and_the_share_still_holds():
    for seed in range(50):
        pages = {f"p{i}": i // 3 for i in range(90)}
        found = split(pages, 0.1, seed)
        assert all(len({found[name] for name in pages if pages[name] == group}) == 1 for group in range(30))
        assert sorted(found.values()).count("eval") == 9
    large = {f"p{i}": max(0, i - 89) for i in range(100)}  # 90 pages are one group: it is no tenth
    found = split(large, 0.1, 0)
    assert found["p0"] == "train"
    assert sorted(found.values()).count("eval") == 10
    assert sorted(split({"a": 0, "b": 0, "c": 1, "d": 1, "e": 1}, 0.1, 0).values()).count("eval") == 2


def test_pages_three_quarters_alike_go_together_wherever_they_stand():
    texts = [text(n) for n in range(60)]
    texts[40] = with_other_end(texts[7], 0.75, seed=1000)
    texts[59] = texts[7].upper()
    texts[3] = with_other_end(texts[20], 0.75, seed=1001)
    found = groups(texts)
    alike = {n: group for n, group in enumerate(found) if group != n}
    assert alike == {40: 7, 59: 7, 20: 3}
    assert groups(iter(texts)) == found


def test_pages_that_share_a_quarter_or_boilerplate_stay_apart():
    menu = text(5000, 60)
    texts = [f"{menu} {text(n)}" for n in range(200)]
    texts.append(with_other_end(texts[0], 0.25, seed=1000))
    assert groups(texts) == list(range(201))


def test_short_and_empty_texts_and_none():
    assert groups([]) == []
    assert groups(["a b", "", "a b", "c d", "\ud800"]) == [0, 1, 0, 3, 4]


def test_many_equal_pages_are_one_group():
    assert set(groups(["the same few words on every page"] * 3000)) == {0}
