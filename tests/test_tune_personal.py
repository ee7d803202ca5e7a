import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.data import personal


def kinds(text):
    return [span.kind for span in personal.found(text)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("e-mail address", "Ada Lovelace <ada@analytical.org>"),
        ("e-mail address", "write to j.doe+lists@mail.acme.co.uk."),
        ("telephone number", "call +49 30 901820 or"),
        ("telephone number", "call +1 (415) 555-2671."),
        ("IBAN", "pay to DE89 3704 0044 0532 0130 00 now"),
        ("IBAN", "GB82WEST12345698765432"),
        ("card number", "4539 1488 0343 6467"),
        ("card number", "371449635398431"),
    ],
)
def test_each_kind_is_found(kind, text):
    assert kinds(text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "user@example.com, someone@mail.example.org, noreply@acme.com, no-reply@github.com, root@localhost",
        "git@github.com:owner/name.git",
        "security@djangoproject.com",
        "postgresql://scott:tiger@db.acme.com/x",
        "name@host, @decorator.name, a@b",
        "git-maintenance@daily.timer",
        "x = a @ b.T",
        "+1.5, +15551234, 1e+10, +0200 and +00:00",
        "2024-01-01 10:00:00 +0100",
        "DE89 3704 0044 0532 0130 01",  # its check digits are wrong
        "4539 1488 0343 6468",  # and this one's
        "4111 1111 1111 1111",  # a number for tests
        "0000 0000 0000 0000",
        "3.141592653589793",
        "1234567890123456",
        "AB12 CDEF 3456",
    ],
)
def test_what_is_nobodys_stays(text):
    assert kinds(text) == []


@given(st.integers(0, 10**14 - 1))
def test_one_wrong_digit_is_no_card_number(n):
    digits = next(f"4{n:014d}{c}" for c in "0123456789" if personal.luhn(f"4{n:014d}{c}"))
    wrong = digits[:-1] + str((int(digits[-1]) + 1) % 10)
    assert not personal.luhn(wrong)
    assert kinds(f"card {wrong}.") == []


@given(st.text(alphabet="0123456789", min_size=18, max_size=18))
def test_one_wrong_digit_is_no_iban(account):
    rest = str(98 - int(account + "131400") % 97).zfill(2)  # DE00 behind it, letters as 13 and 14
    assert personal.iban(f"DE{rest}{account}")
    assert not personal.iban(f"DE{(int(rest) % 97) + 1:02}{account}")


@given(st.text())
def test_any_text_is_searched(text):
    for span in personal.found(text):
        assert 0 <= span.start < span.end <= len(text)
