"""Free-text questions that people put to an assistant for Python's documentation, each with its key points.

Own wording, about what CPython documents and what hangs on no version. A point is a small rule over the answer
(replies/points.py): a sign that a fact is told, no proof of it. So they are shown beside the gate and decide nothing.
"""

from evalsuite.balance import name
from evalsuite.questions import ADVICE, Point, Question

KIND = "tutorial"
RULE = "Answer in plain prose of at most 120 words. Put code, where it helps, into a fenced block."


def _told(says: str, *any_: str, code: tuple[str, ...] = ()) -> Point:
    return Point(says=says, any=any_, code=code)


def _false(says: str, *any_: str) -> Point:
    return Point(says=says, any=any_, false=True)


_NOT = r"(?<!not )(?<!n't )(?<!never )(?<!than )(?<!without )(?<!instead of )"  # a claim that is denied is none

TUTORIAL: dict[str, tuple[Point, ...]] = {
    "What is a list comprehension, and when would you write one in place of a loop?": (
        _told("it builds a new list", r"\bnew list\b", r"\b(build|creat|construct|mak|produc)\w* (a|the|another) list"),
        _told(
            "from each item of an iterable", r"\b(each|every) (item|element|value|member)", r"\biterable", r"\bsequence"
        ),
        _told(
            "an if clause filters",
            r"\bfilter",
            r"\bconditions?\b",
            r"\bif (clause|part)",
            r"\bthat (satisfy|meet|pass)",
        ),
        _told("it is short and clear for simple cases", r"\b(concise|compact|short|readable|clear|simple|brief)"),
        _told("an example has a comprehension", code=("ListComp",)),
        _false(
            "it changes the list in place",
            rf"{_NOT}\b(modif|chang|mutat|updat)\w* the (original |old |same )?list( in place)?",
        ),
    ),
    "How do a list and a tuple differ, and when does one take a tuple?": (
        _told(
            "a list can be changed",
            r"\blists? (is|are) (a |)mutable",
            r"\blists? can be (changed|modified)",
            r"\b(change|modify|append to) a list",
        ),
        _told(
            "a tuple cannot",
            r"(?<!lists are )(?<!list is )\bimmutable",
            r"\btuples? (cannot|can't|can not) be (changed|modified)",
        ),
        _told("brackets against commas or parentheses", r"\bparenthes[ei]s", r"\bcommas?\b", r"\bsquare brackets"),
        _told(
            "a tuple can be a dictionary's key, if its items can",
            r"\bhashable",
            r"\b(dict|dictionary|dictionaries)\b.{0,20}\bkeys?\b",
            r"\bkeys? (of|in) a dict",
        ),
        _false("a tuple can be changed", r"\btuples? (is|are) mutable", r"\blists? (is|are) immutable"),
    ),
    "In a try statement with except, else and finally: which part runs when?": (
        _told("except runs for a matching exception", r"\bexcept\b.{0,60}\b(exception|error|match|rais)"),
        _told(
            "else runs where none was raised",
            r"\belse\b.{0,60}\b(no|without|not|n't)\b.{0,20}\b(exceptions?|errors?|rais\w+)",
            r"\b(no|without)( an)? (exception|error)s?\b.{0,40}\belse\b",
        ),
        _told(
            "finally runs in every case",
            r"\bfinally\b.{0,40}\b(always|in (any|every) case|no matter|whether|regardless|either way)",
            r"\balways\b.{0,20}\bfinally\b",
        ),
        _told(
            "also on the way out by return, break or an exception that nobody handles",
            r"\b(return|break|unhandled|uncaught|re-?raised?)\b",
            r"\bnot (handled|caught)\b",
        ),
        _false(
            "finally runs only on success or only on failure",
            r"\bfinally (block |clause |part )?(only runs|runs only|executes only) (if|when|after)\b",
            r"\bfinally (block |clause |part )?is skipped\b",
        ),
    ),
    "What does the with statement do when I open a file in it?": (
        _told("it uses a context manager", r"\bcontext manager"),
        _told("the file is closed at the end of the block", r"\bclos(e|es|ed|ing)\b"),
        _told(
            "also when the block raises",
            r"\b(even|also|including|whether|too)\b.{0,50}\b(exception|error|rais\w+|fails?)\b",
            r"\b(exception|error)s?\b.{0,40}\b(too|as well|or not)\b",
        ),
        _told("by __enter__ and __exit__", r"__exit__", r"__enter__"),
        _told("an example has a with statement", code=("With",)),
        _false(
            "it swallows exceptions",
            rf"{_NOT}\b(suppress|swallow|catch|ignor|hid)\w* (all|any|every) (exception|error)s?",
        ),
    ),
    "Write a function that returns all prime numbers up to n with the sieve of Eratosthenes, and say how it works.": (
        _told("it is a function", code=("FunctionDef",)),
        _told("with a loop", code=("For", "While")),
        _told("that returns", code=("Return",)),
        _told("multiples of a prime are crossed out", r"\bmultiples?\b"),
        _told("what is left is prime", r"\b(left|remain\w*|still|not crossed|unmarked|survive\w*)\b"),
        _told(
            "it starts at the square, or stops at the root",
            r"\bsquare",
            r"\bsqrt\b",
            r"\b(p|i|n)( )?(\*|\*\*)( )?(p|i|2|0\.5)\b",
        ),
        _false("1 is prime", r"\b(1|one) is (a |also a |the first )?prime\b"),
    ),
    "What does json.dumps do with characters that are not ASCII, such as an umlaut?": (
        _told("they are escaped by default", r"\bescap"),
        _told(r"as \u and four digits", r"\\u", r"\bunicode escape", r"\bhex"),
        _told("ensure_ascii decides that", r"\bensure_ascii\b"),
        _told("ensure_ascii=False keeps them", r"\bensure_ascii ?(=|to|is|as)? ?False\b"),
        _false(
            "it raises",
            rf"\bdumps (would |will )?{_NOT}(raises?|throws?|fails?)\b",
            rf"{_NOT}\braises? (a )?Unicode\w*Error",
        ),
        _false(
            "ensure_ascii is False by default",
            r"\bensure_ascii (is|defaults to) False( by default)?\b",
            r"\bdefaults? (is|to) False",
        ),
    ),
    "Why does my function with the parameter items=[] remember what earlier calls appended?": (
        _told(
            "a default is evaluated once",
            r"\b(evaluat|creat|made|built|comput)\w* (only |just )?once\b",
            r"\bonce\b.{0,40}\b(evaluat|creat|defin)",
        ),
        _told("when the function is defined", r"\bdefin(ed|ition)\b", r"\bdef\b.{0,20}\b(runs?|executed?)"),
        _told("so all calls share one list", r"\bshar(e|es|ed|ing)\b", r"\bsame (list|object)\b"),
        _told("the way out is None as the default", r"\bNone\b"),
        _told("an example defines a function", code=("FunctionDef",)),
        _false(
            "a default is evaluated at each call",
            rf"{_NOT}\b(evaluat|creat)\w* (anew |again )?(at|on|for|with|in) (each|every) call",
        ),
    ),
    "What is the difference between == and is?": (
        _told("== compares values", r"==.{0,40}\b(values?|equal\w*|contents?)\b"),
        _told("is compares identity", r"\bidentity\b", r"\bidentical\b", r"\bsame object\b"),
        _told("is is for None", r"\bis (not )?None\b", r"\bNone\b.{0,40}\bis\b", r"\bsingletons?\b"),
        _told(
            "equal objects need not be identical",
            r"\b(two|different|distinct|separate) (lists|objects|strings|values)\b",
        ),
        _false("is compares values", r"\bis (operator )?(compares|checks|tests) (the )?(values?|equality|contents?)\b"),
    ),
    "What does yield do in a function?": (
        _told("it makes the function a generator", r"\bgenerators?\b"),
        _told(
            "values come one at a time, when asked for",
            r"\b(one|a value|an item) (at a time|by one)\b",
            r"\blaz(y|ily)\b",
            r"\bon demand\b",
            r"\bnext\b",
        ),
        _told("the function pauses", r"\b(paus|suspend)\w*", r"\bremember\w*\b.{0,40}\b(state|where|local)"),
        _told("and goes on from there", r"\b(resum|continu)\w*", r"\bgoes on\b", r"\bpicks up\b"),
        _told("an example has a yield", code=("Yield", "YieldFrom")),
        _false(
            "it ends the function, or returns a list",
            r"\byield (ends|stops|terminates|exits) the (function|generator)\b",
            r"\byield returns a list\b",
            r"\bgenerator (function )?returns a list\b",
        ),
    ),
    "Should I call sorted() or the sort() method of a list?": (
        _told("sorted makes a new list", r"\bsorted\b.{0,40}\bnew\b", r"\bnew (sorted )?list\b"),
        _told(
            "sort changes the list in place",
            r"\bin[- ]place\b",
            r"\bsort\b.{0,30}\b(changes|modifies|reorders) (the|that|a) (original |same |very )?list\b",
        ),
        _told("sort returns None", r"\bNone\b", r"\breturns nothing\b"),
        _told(
            "sorted takes any iterable",
            r"\b(any|every|other) (kind of )?iterables?\b",
            r"\btuples?\b",
            r"\bgenerators?\b",
        ),
        _false(
            "sort returns the sorted list", r"(?<!ed )(?<!ed\(\) )\bsort(\(\))? returns (the|a) (new )?(sorted )?list\b"
        ),
    ),
}


def tutorial() -> list[Question]:
    """All of them, in their order: the same for every recipe."""
    return [
        Question(
            id=name(KIND, prompt),
            kind=KIND,
            module=KIND,
            prompt=prompt,
            answer="",
            grader="exact",
            split=ADVICE,
            developer=RULE,
            points=points,
        )
        for prompt, points in TUTORIAL.items()
    ]
