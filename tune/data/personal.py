"""Personal data that stands in a text: e-mail addresses, telephone numbers, IBANs and card numbers, and where.

In: any text. Out: spans. What has a check sum is only taken with the right one. Addresses of nobody are none:
of the domains that RFC 2606 keeps for examples, of this machine, of robots and of roles such as security@.
Pure; knows no files.
"""

import re
from collections.abc import Iterator

from tune.data.secrets import Span, merged

_MAIL = re.compile(
    r"(?<![\w.+%/:@-])([A-Za-z0-9][\w.+%-]{0,63})@((?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.)+[A-Za-z]{2,24})\b"
)
_NOBODY = re.compile(
    r"(?i)(?:^|\.)(?:example(?:\.[a-z]+)?|test|invalid|localhost|local|localdomain|domain\.(?:com|tld)|"
    r"timer|service|socket|target|(?:my|your)?(?:domain|company|site|server|host)\.(?:com|org|net))$"
)
_ROBOT = re.compile(
    r"(?i)^(?:no-?reply|do-?not-?reply|postmaster|mailer-daemon|majordomo|webmaster|root|git|admin|info|help|support|"
    r"contact|security|abuse|bugs?|lists?|sales|press|user(?:name)?|you|name|foo|bar|me)$"
)
# +CC and seven to fifteen digits (ITU-T E.164), in groups by blanks, dots, hyphens or brackets.
_PHONE = re.compile(r"(?<![\w+.\-])\+[1-9]\d{0,2}(?:[ .\-]?\(\d{1,4}\))?(?:[ .\-]?\d{2,5}){2,5}(?![\w\-]|\.\d)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(
    r"(?<![\w.\-])(?:\d{4}[ \-]?){3}\d{1,4}(?![\w\-]|\.\d)|(?<![\w.\-])3[47]\d{2}[ \-]?\d{6}[ \-]?\d{5}(?!\w)"
)
_NUMBERED = re.compile(r"[A-Z]{2}\d{2}|\d{4}")  # which every IBAN and every card number has
# The numbers that the card networks and payment services give out for tests.
_TEST_CARDS = {"4242424242424242", "4111111111111111", "5555555555554444", "378282246310005", "4012888888881881"}


def found(text: str) -> list[Span]:
    """Every piece of personal data in a text, in order."""
    return merged(_spans(text))


def suspected(text: str) -> bool:
    """Whether a text could hold any at all: a look at it that costs a part of finding."""
    return "@" in text or "+" in text or _NUMBERED.search(text) is not None


def iban(text: str) -> bool:
    """Whether the check digits of an IBAN are right (ISO 13616: modulo 97), and it has 15 to 34 characters."""
    flat = text.replace(" ", "")
    digits = "".join(str(int(c, 36)) for c in flat[4:] + flat[:4])
    return 15 <= len(flat) <= 34 and int(digits) % 97 == 1


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    doubled = [int(c) * (1 + n % 2) for n, c in enumerate(reversed(digits))]
    return sum(n // 10 + n % 10 for n in doubled) % 10 == 0


def _spans(text: str) -> Iterator[Span]:
    for match in _MAIL.finditer(text) if "@" in text else ():
        if not (_NOBODY.search(match[2]) or _ROBOT.match(match[1])):
            yield Span("e-mail address", *match.span())
    for match in _PHONE.finditer(text) if "+" in text else ():
        if 8 <= sum(c.isdigit() for c in match[0]) <= 15 and re.search(r"[ .\-(]", match[0]):
            yield Span("telephone number", *match.span())
    for match in _IBAN.finditer(text):
        if iban(match[0]):
            yield Span("IBAN", *match.span())
    for match in _CARD.finditer(text) if re.search(r"\d{4}", text) else ():
        digits = re.sub(r"\D", "", match[0])
        if 13 <= len(digits) <= 19 and digits[0] in "3456" and luhn(digits) and digits not in _TEST_CARDS:
            yield Span("card number", *match.span())
