"""Boolean formulas over propositions, such as ``"key & !lava | goal"``, as truth tables."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<mark>[!&|()])|(?P<end>$))", re.ASCII)
MAX_CHARACTERS, MAX_DEPTH = 1000, 20


class FormulaError(ValueError):
    """A formula does not parse; the message shows where."""


def truth_table(formula: str, names: Sequence[str]) -> Tensor:
    """Where a formula holds.

    Args:
        formula: Propositions joined by ``!`` (not), ``&`` (and), ``|`` (or), brackets; ``true`` and ``false``.
        names: The P propositions.

    Returns:
        Bool ``[2 ** P]``: entry i is for the letter whose bit p says whether ``names[p]`` holds.

    Raises:
        FormulaError: With the position marked.
    """
    return _Formula(formula, names).run()


class _Formula:
    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text, self.names, self.depth, self.at = text, list(names), 0, 0
        if len(text) > MAX_CHARACTERS:
            raise FormulaError(f"the formula has {len(text)} characters; at most {MAX_CHARACTERS} are read")
        self.letters = torch.arange(1 << len(names))
        self.kind, self.token, self.begin = "", "", 0
        self.advance()

    def error(self, message: str) -> FormulaError:
        mark = " " * self.begin + "^"
        return FormulaError(f"{message}, at character {self.begin + 1} of the formula:\n  {self.text}\n  {mark}")

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            self.begin = len(self.text) - len(self.text[self.at :].lstrip())
            raise self.error(f"{self.text[self.begin]!r} has no meaning in a formula of ! & | ( ) and names")
        self.kind = str(match.lastgroup)
        self.token, self.begin, self.at = match[self.kind], match.start(self.kind), match.end()

    def run(self) -> Tensor:
        value = self.any_of()
        if self.kind != "end":
            raise self.error(f"the formula should end here, or go on with & or |, and not with {self.token!r}")
        return value

    def any_of(self) -> Tensor:
        value = self.all_of()
        while self.token == "|":
            self.advance()
            value = value | self.all_of()
        return value

    def all_of(self) -> Tensor:
        value = self.one()
        while self.token == "&":
            self.advance()
            value = value & self.one()
        return value

    def one(self) -> Tensor:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"the formula is more than {MAX_DEPTH} levels deep")
        if self.token == "!":
            self.advance()
            value = ~self.one()
        elif self.token == "(":
            self.advance()
            value = self.any_of()
            if self.token != ")":
                raise self.error("a bracket is not closed")
            self.advance()
        elif self.kind == "name":
            value = self.named()
            self.advance()
        else:
            raise self.error("a proposition should stand here" + (f", and not {self.token!r}" if self.token else ""))
        self.depth -= 1
        return value

    def named(self) -> Tensor:
        if self.token in self.names:
            return (self.letters >> self.names.index(self.token)) & 1 == 1
        if self.token.lower() in ("true", "false"):
            return torch.full(self.letters.shape, self.token.lower() == "true")
        raise self.error(f"no label is called {self.token!r}; there are {', '.join(self.names) or 'none'}")


def formula_of(holds: Tensor, names: Sequence[str]) -> str:
    """A formula for a truth table, as short as the prime implicants allow (Quine 1952, McCluskey 1956).

    Implicants are chosen greedily, the widest first, so that a shorter formula may exist; its truth table is exact.

    Args:
        holds: Bool ``[2 ** P]``, as ``truth_table`` gives.
        names: The P propositions.
    """
    wanted = {int(i) for i in holds.nonzero()[:, 0]}
    if len(wanted) in (0, len(holds)):
        return "true" if wanted else "false"
    # An implicant is (mask of the propositions that do not matter, values of the others).
    primes: set[tuple[int, int]] = set()
    layer = {(0, i) for i in wanted}
    while layer:
        merged: set[tuple[int, int]] = set()
        wider: set[tuple[int, int]] = set()
        for mask, value in layer:
            for p in range(len(names)):
                bit = 1 << p
                if not mask & bit and (mask, value ^ bit) in layer:
                    merged.add((mask, value))
                    wider.add((mask | bit, value & ~bit))
        primes |= layer - merged
        layer = wider
    parts = []
    left = set(wanted)
    covers = {prime: {i for i in wanted if i & ~prime[0] == prime[1]} for prime in primes}
    while left:
        best = max(sorted(covers), key=lambda prime: len(covers[prime] & left))
        left -= covers[best]
        mask, value = best
        literals = [n if value >> p & 1 else f"!{n}" for p, n in enumerate(names) if not mask >> p & 1]
        parts.append("&".join(literals))
    return " | ".join(sorted(parts, key=lambda part: (len(part), part)))
