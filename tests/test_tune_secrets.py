import base64
import json
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.data import dropped, secrets
from tune.data.examples import Example
from tune.harmony import Message

DICE = random.Random(4)
ALPHANUMERIC = string.ascii_letters + string.digits


def chance(length, letters=ALPHANUMERIC):
    return "".join(DICE.choice(letters) for _ in range(length))


def token(**claims):
    parts = [{"alg": "HS256", "typ": "JWT"}, claims]
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{body}.{chance(43)}"


def pem(letters):
    return f"-----BEGIN RSA PRIVATE KEY-----\n{letters}\n-----END RSA PRIVATE KEY-----"


# Made of dice, and in parts: no scanner of this repository takes them for keys of somebody.
KEYS = {
    "AWS access key": "AKIA" + chance(16, string.ascii_uppercase + "234567"),
    "GitHub token": "ghp_" + chance(36),
    "GitLab token": "glpat-" + chance(20),
    "Slack token": "xoxb-" + chance(11, string.digits) + "-" + chance(24),
    "Slack webhook": "https://hooks.slack.com/services/T" + chance(9) + "/B" + chance(9) + "/" + chance(24),
    "Google API key": "AIza" + chance(35),
    "OpenAI-like key": "sk-proj-" + chance(40),
    "Stripe key": "sk_live_" + chance(24),
    "Hugging Face token": "hf_" + chance(34, string.ascii_letters),
    "PyPI token": "pypi-AgEI" + chance(80),
    "npm token": "npm_" + chance(36),
    "private key": pem(chance(600)),
    "JSON web token": token(sub="u-93", iss="https://accounts.acme.io"),
    "assigned secret": f'DB_PASSWORD = "{chance(20, "0123456789abcdef")}"',
    "password in a URL": "postgresql://svc:" + chance(14, "bcdfgh2345678") + "@db.acme.io/orders",
}
EXAMPLES = [
    "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'",
    "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "sk-...",
    "sk-your-key-goes-right-here-thanks",
    "ghp_" + "x" * 36,
    "AIza" + "0123456789" * 3 + "01234",
    pem("MIIEow..."),
    pem("(the key in base64)"),
    token(sub="1234567890", name="John Doe"),
    'password = "hunter2hunter2"',
    'password = "correcthorsebattery"',
    'password="{{ vault_db_password }}"',
    'secret_key = os.environ["SECRET_KEY_OF_APP"]',
    'SECRET_KEY = "django-insecure-your-secret"',
    "postgresql://scott:tiger@localhost/test",
    "https://user:password@example.com/",
    'password = "ClassifierMixin2"',
    'auth_token = "requests/2.31.0"',
]


@pytest.mark.parametrize("kind", KEYS)
def test_each_kind_is_found_where_it_stands_and_masked(kind):
    text = f"Before.\n{KEYS[kind]} and after."
    (span,) = secrets.found(text)
    assert span.kind == kind
    value = text[span.start : span.end]
    masked = secrets.masked(text, [span])
    assert value not in masked
    assert "[...]" in masked
    assert masked.startswith("Before.\n")
    assert masked.endswith("and after.")


@pytest.mark.parametrize("text", EXAMPLES)
def test_what_documentation_shows_as_an_example_stays(text):
    assert secrets.found(f"Set it so:\n\n```\n{text}\n```\n") == []


@given(st.text(), st.text())
def test_any_text_around_a_key_is_kept(before, after):
    key = KEYS["Stripe key"]
    text = f"{before} {key} {after}"
    found = [span for span in secrets.found(text) if span.kind == "Stripe key"]
    assert [text[span.start : span.end] for span in found] == [key]
    assert secrets.masked(text, found) == f"{before} [...] {after}"


def test_a_dropped_row_shows_no_secret_not_even_half_of_one_at_the_cut():
    key, mail = KEYS["GitHub token"], "ada.lovelace@analytical.org"
    answer = "x" * (dropped.LONGEST - 20) + " " + key
    turns = (Message(role="user", content=f"Whose is {mail}?"), Message(role="assistant", content=answer, thinking="a"))
    facts = {"page": "p", "module": "m", "provenance": "here", "check": "grounded", "effort": "low"}
    tally = dropped.Tally()
    for n in range(dropped.MOST + 5):
        tally.add(Example(id=f"e{n}", kind="section", messages=turns, **facts), "holds a secret", f"as {key}")
    rows = [dropped.Dropped.model_validate_json(line) for line in tally.lines()]
    assert tally.counts == {"holds a secret": dropped.MOST + 5}
    assert [row.id for row in rows] == [f"e{n}" for n in range(dropped.MOST)]
    assert rows[0].detail == "as [...]"
    assert rows[0].question == "Whose is [...]?"
    assert rows[0].answer.endswith("[...]")
    assert max(len(row.answer) for row in rows) <= dropped.LONGEST
    assert "ghp_" not in "".join(tally.lines())
