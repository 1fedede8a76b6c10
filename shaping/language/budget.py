"""How much may be asked: tokens and money, counted before a request is sent, so that the limit is one."""

import threading
from collections.abc import Mapping
from typing import Any


class Budget:
    """A limit on tokens and on money; where it is reached nothing is asked any more, and training goes on.

    A request is admitted if the largest answer that it may get would still fit; what was not used is given back. Where
    a server tells no usage, or no answer came though one may have been made, the estimate stays spent.

    Args:
        tokens: Most tokens, of prompts and answers together; None for no limit.
        money: Most money, in the unit of the prices; None for no limit.
        price_in: Of a million tokens of prompt.
        price_out: Of a million tokens of answer.

    Raises:
        ValueError: A number is below 0, or there is a limit of money and no price.
    """

    def __init__(
        self, tokens: int | None = None, money: float | None = None, price_in: float = 0.0, price_out: float = 0.0
    ) -> None:
        if min(tokens or 0, money or 0, price_in, price_out) < 0:
            raise ValueError("Budget: tokens, money and prices are not below 0")
        if money is not None and not price_in + price_out > 0:
            raise ValueError(f"Budget(money={money}): say what a million tokens cost, price_in= and price_out=")
        self.tokens, self.money, self.price_in, self.price_out = tokens, money, float(price_in), float(price_out)
        self.spent_in = self.spent_out = 0
        self._reserved: dict[int, tuple[int, int]] = {}
        self._next = 0
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Budget":
        """A budget is shared: two copies of a reward do not have twice the money."""
        return self

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Money for so many tokens."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6

    @property
    def spent(self) -> float:
        """Money spent."""
        return self.cost(self.spent_in, self.spent_out)

    def admit(self, tokens_in: int, tokens_out: int) -> int | None:
        """Set aside what a request may use at most; a ticket, or None where it would not fit."""
        with self._lock:
            held = [sum(pair[i] for pair in self._reserved.values()) for i in (0, 1)]
            total_in, total_out = self.spent_in + held[0] + tokens_in, self.spent_out + held[1] + tokens_out
            if self.tokens is not None and total_in + total_out > self.tokens:
                return None
            if self.money is not None and self.cost(total_in, total_out) > self.money:
                return None
            self._next += 1
            self._reserved[self._next] = (tokens_in, tokens_out)
            return self._next

    def settle(self, ticket: int, used: tuple[int, int] | None) -> None:
        """Spend what was used; None keeps all that was set aside spent."""
        with self._lock:
            reserved = self._reserved.pop(ticket)
            tokens_in, tokens_out = reserved if used is None else used
            self.spent_in, self.spent_out = self.spent_in + tokens_in, self.spent_out + tokens_out

    @property
    def line(self) -> str:
        """What is left, in words."""
        parts = []
        if self.tokens is not None:
            parts.append(f"{self.spent_in + self.spent_out:,} of {self.tokens:,} tokens")
        if self.money is not None:
            parts.append(f"{self.spent:.4g} of {self.money:g} in money")
        return " and ".join(parts) or f"{self.spent_in + self.spent_out:,} tokens"

    def state(self) -> dict[str, Any]:
        """What was spent."""
        return {"in": self.spent_in, "out": self.spent_out}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what was spent; what was spent since then stays spent."""
        self.spent_in, self.spent_out = max(self.spent_in, int(state["in"])), max(self.spent_out, int(state["out"]))


def estimate(text: str) -> int:
    """Tokens of a text where nobody has counted: a third of its bytes, which is above what English takes."""
    return len(text.encode()) // 3 + 1
