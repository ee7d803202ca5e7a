"""The Hugging Face tokenizer of GPT-OSS, rebuilt from the harmony vocabulary: no download; and what is wrong with one.

In: nothing but the harmony library. Out: `tokenizer.json` and `tokenizer_config.json`, 201,088 ids. Control tokens
that the text spells out become control tokens, as in every Hugging Face tokenizer, unless the caller encodes with
`split_special_tokens=True`; the kit's own prompts go through `tune.harmony` and never meet that question.
Knows nothing about models.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from tune import cache, harmony
from tune.weights.tensors import Fault

RULES = 1  # count it up with every change of _judge: what was found right by older rules is judged again
MERGES = 446_189  # ways to put a token together from two others; the published GPT-OSS tokenizer has as many

# o200k's split into words, from tiktoken's `openai_public.py`.
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join(
    [
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_SUFFIX}",
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_SUFFIX}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)

# Words, numbers, code, white space, marks and signs of several scripts: where a tokenizer that splits otherwise shows.
TEXTS = (
    "The quick brown fox jumps over 13 lazy dogs; it's they'LL-don't, COULDN'T've i.e. naïve café co\u0301te.",
    'def f(x: int = 0, *args) -> dict[str, float]:\n    """Doc."""\n\treturn {x!r: 1e-9 ** 2}  # noqa: E501\n',
    "import numpy as np\r\nprint(np.array([[1, 2], [3, 4]])[::-1] @ b)  //  a+=1; </div>\\n && ||",
    "0 12 123 1234 12345678901234567890 3.14159 1,000,000.00 0xDEADBEEF ²³ ½ ٣٤٥ १२३",
    " a  b   c    d\t\te\n\n\nf \r\n  \n g\u00a0h\u2003i\u3000j   ",
    "Ελληνικά κείμενα. Русский текст, українська. שלום עולם. مرحبا بالعالم. हिन्दी पाठ। ภาษาไทย",
    "日本語の文章、カタカナ。中文简体與繁體字。한국어 문장입니다. Tiếng Việt có dấu. Ünïcödé ŞIİıß",
    "👩\u200d👩\u200d👧 🏳️\u200d🌈 👍🏽 ❤️ ☃ ♞ → ∑∫√ € £ “quotes” — dash… «guillemets»",
    "| a | b |\n|---|---|\n# Heading\n- item\n  1. inner\n```python\nx\n```\nhttps://example.org/a?b=c&d=%20#e",
)


def ranks() -> dict[bytes, int]:
    """The byte-pair vocabulary: 199,998 byte strings and their ids, in id order."""
    decode = harmony.encoding().decode
    out = {decode([i], errors="surrogateescape").encode("utf-8", "surrogateescape"): i for i in range(harmony.RANKS)}
    if len(out) != harmony.RANKS:
        raise RuntimeError(f"the harmony vocabulary has {len(out)} distinct tokens, not {harmony.RANKS}")
    return out


def merges(vocabulary: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every split of a token into two tokens, in the order in which byte-pair encoding applies them."""
    out = []
    for token in vocabulary:  # in id order: the earlier token is merged first
        pairs = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in vocabulary]
        both = [(a, b) for a, b in pairs if b in vocabulary]
        out += sorted(both, key=lambda p: (vocabulary[p[0]], vocabulary[p[1]]))
    return out


def build(folder: Path) -> None:
    """Write the tokenizer's two files into `folder` (about 4 s)."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import BPE

    vocabulary = ranks()
    pairs = merges(vocabulary)
    if len(pairs) != MERGES:
        raise RuntimeError(f"the harmony vocabulary gives {len(pairs)} merges, not {MERGES}")
    shown = str.maketrans(_shown())  # byte-level BPE stores each byte as one printable character
    text = {token: token.decode("latin-1").translate(shown) for token in vocabulary}
    model = BPE({text[t]: i for t, i in vocabulary.items()}, [(text[a], text[b]) for a, b in pairs], ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    control = [harmony.decode([i]) for i in range(harmony.RANKS, harmony.VOCABULARY)]
    tokenizer.add_special_tokens([AddedToken(c, normalized=False, special=True) for c in control])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": harmony.decode([harmony.RANKS]),
        "eos_token": harmony.decode([harmony.RETURN]),
        "pad_token": harmony.decode([harmony.PAD]),
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def faults(folder: Path) -> list[Fault]:
    """What is wrong with the tokenizer in `folder`, read as the engine reads it.

    Held against harmony: the ids of control tokens, then of the whole vocabulary, the order of merges, and the ids of
    TEXTS, where a split into words that is another shows. About 2 s; of a file whose contents were judged before by
    this process, or found right by an earlier one of this user, 0.05 s.
    """
    path = folder / "tokenizer.json"
    try:
        data = path.read_bytes()
    except OSError as e:
        return [Fault(f"{path} cannot be read", e.strerror or str(e))]
    key = hashlib.sha256(data).hexdigest()
    if key not in _judged:
        _judged[key] = ("", "") if (known := _is_known(key)) else _judge(data)
        if not known and _judged[key] == ("", ""):
            _remember(key)
    what, why = _judged[key]
    return [Fault(f"{path} {what}", why)] if what else []


def _mark(key: str) -> Path | None:
    """The empty file that says that contents of this sha256 were found right, by these rules and this harmony."""
    home = cache.home()
    return home / "tokenizers" / f"{RULES}-{harmony.fingerprint('2026-01-01')[:16]}-{key}" if home else None


def _is_known(key: str) -> bool:
    mark = _mark(key)
    return mark is not None and cache.is_ours(mark.parent, mark)


def _remember(key: str) -> None:
    with suppress(OSError):
        if mark := _mark(key):
            mark.parent.parent.mkdir(parents=True, exist_ok=True)
            mark.parent.mkdir(mode=0o700, exist_ok=True)
            mark.touch(mode=0o600)


_judged: dict[str, tuple[str, str]] = {}  # by sha256 of the file: what is wrong and why, both empty when nothing is


def _judge(data: bytes) -> tuple[str, str]:
    try:
        import tokenizers

        found = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
    except Exception as e:  # noqa: BLE001 - the library raises bare Exception for every kind of damage
        return "cannot be read", str(e)[:200]
    ids = {text: found.token_to_id(text) for text in harmony.CONTROL}
    if wrong := [text for text, number in harmony.CONTROL.items() if ids[text] != number]:
        first = wrong[0]
        why = f"{first} is {'absent' if ids[first] is None else ids[first]}, harmony has {harmony.CONTROL[first]}"
        return f"is not GPT-OSS's: {', '.join(wrong)} have other ids", why
    vocabulary, shown = ranks(), str.maketrans(_shown())
    wanted = {token.decode("latin-1").translate(shown): i for token, i in vocabulary.items()}
    has = found.get_vocab()
    if other := [token for token, i in wanted.items() if has.get(token) != i]:
        why = f"{other[0]!r} is {has.get(other[0], 'absent')}, harmony has {wanted[other[0]]}"
        return f"is not GPT-OSS's: {len(other):,} of {len(wanted):,} tokens have other ids", why
    if why := _misordered(data, wanted):
        return "is not GPT-OSS's: it merges in another order", why
    for text in TEXTS:
        got, expected = found.encode(text, add_special_tokens=False).ids, harmony.encode(text)
        if got != expected:
            return "is not GPT-OSS's: it gives other ids", f"{text!r} is {got[:9]}, harmony has {expected[:9]}"
    return "", ""


def _misordered(data: bytes, wanted: dict[str, int]) -> str:
    """What is wrong with the merges, or "": there is each once, and none before one that makes an earlier token."""
    model = json.loads(data)["model"]
    pairs = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model.get("merges", ())]
    if len(set(pairs)) != len(pairs) or len(pairs) != MERGES:
        return f"{len(set(pairs)):,} merges, GPT-OSS has {MERGES:,}"
    made = [wanted[a + b] for a, b in pairs]
    late = next((i for i in range(1, len(made)) if made[i] < made[i - 1]), None)
    return "" if late is None else f"{pairs[late - 1]} comes before {pairs[late]}"


def _shown() -> dict[int, int]:
    """GPT-2's map from bytes to printable characters: a printable byte is itself, the others follow from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return {b: b for b in printable} | {b: 256 + n for n, b in enumerate(rest)}
