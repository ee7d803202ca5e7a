"""A session in, the same with other literals out: what cannot have been memorised."""

import ast
import random
import re
import string
from contextlib import suppress

# Directives of strftime, formats of struct, ranges and escapes of regular expressions: another letter there may mean
# what only one platform knows, or nothing at all.
_FORMAT = re.compile(r"%|\\|^[<>=!@]|\[[^]]*-|\(\?")


def mutated(source: str, rng: random.Random, *, letters: bool = True) -> str | None:
    """The source with other letters, digits, bytes and numbers of the same shape; without `letters`, other numbers
    alone. None where nothing changes, or it cannot be written out again. What stops running is dropped when verified.
    """
    tree = ast.parse(source)
    with suppress(ValueError):  # an f-string that cannot be written out again
        was, now = ast.unparse(tree), ast.unparse(_Mutate(rng, letters).visit(tree))
        return now if now != was else None
    return None


class _Mutate(ast.NodeTransformer):
    def __init__(self, rng: random.Random, letters: bool) -> None:
        self.rng = rng
        self.letters = letters

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        value = node.value
        if isinstance(value, bool):
            return node
        if isinstance(value, int):
            return ast.Constant(self.rng.randint(value // 2, 2 * value + 3) if value >= 0 else value)
        if isinstance(value, str) and self.letters and not _FORMAT.search(value):
            return ast.Constant("".join(map(self._letter, value)))
        if isinstance(value, bytes) and self.letters:
            return ast.Constant(bytes(self._letter(chr(b)).encode("latin-1")[0] for b in value))
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.JoinedStr:
        return node

    def _letter(self, letter: str) -> str:
        for family in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
            if letter in family:
                return self.rng.choice(family)
        return chr(self.rng.randrange(128, 256)) if "\x80" <= letter <= "\xff" else letter
