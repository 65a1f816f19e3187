"""What the answers of models cost, in tokens and in money, and the budget that they must keep to."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple, Protocol

from sprint_agents.errors import BudgetExceeded


class CallTokens(NamedTuple):
    """The tokens of one request: ``cached`` is the part of the ``prompt`` that the server read from its cache."""

    prompt: int
    completion: int
    cached: int = 0

    @property
    def total(self) -> int:
        """Prompt and completion."""
        return self.prompt + self.completion


class Price(Protocol):
    """What the requests to one model cost."""

    def __call__(self, counts: CallTokens) -> Decimal:
        """Return the price of one request in US dollars."""
        ...


@dataclass(frozen=True, slots=True)
class PricePerMillion:
    """A price in US dollars for a million tokens of prompts, and for a million of completions.

    >>> PricePerMillion(Decimal("0.25"), Decimal(2))(CallTokens(prompt=4_000, completion=1_000))
    Decimal('0.003')
    """

    prompt: Decimal
    completion: Decimal

    def __call__(self, counts: CallTokens) -> Decimal:
        """Return the price of one request."""
        return (counts.prompt * self.prompt + counts.completion * self.completion) / 1_000_000


@dataclass(slots=True)
class _Amount:
    tokens: int = 0
    dollars: Decimal = Decimal(0)

    def add(self, tokens: int, dollars: Decimal) -> None:
        self.tokens += tokens
        self.dollars += dollars


@dataclass(slots=True, eq=False)
class Spending:
    """Adds up what is spent, and lets a request start only if the budget has room for the longest answer to it.

    ``tokens`` and ``dollars`` are the budget; None means unlimited. ``prices`` has the price of each model by the
    engine's name. A model without a price costs nothing, so a budget in dollars needs the prices of all models.
    """

    tokens: int | None = None
    dollars: Decimal | None = None
    prices: Mapping[str, Price] = field(default_factory=dict[str, Price])
    spent: _Amount = field(default_factory=_Amount)
    _reserved: _Amount = field(default_factory=_Amount)
    _settled: asyncio.Condition = field(default_factory=asyncio.Condition)

    def price(self, model: str, counts: CallTokens) -> Decimal:
        """Return what a request costs, 0 if its model has no price."""
        found = self.prices.get(model)
        return Decimal(0) if found is None else found(counts)

    def spend(self, model: str, counts: CallTokens) -> None:
        """Add what a request has cost."""
        self.spent.add(counts.total, self.price(model, counts))

    @asynccontextmanager
    async def reserved(self, model: str, most: CallTokens) -> AsyncGenerator[None]:
        """Reserve the most that a request may cost while the block runs. Wait for others if they hold the rest.

        Raises:
            BudgetExceeded: the budget has no room for the request, even if all others have ended.
        """
        tokens, dollars = most.total, self.price(model, most)
        async with self._settled:
            while not self._has_room(tokens, dollars):
                if not self._reserved.tokens:
                    raise BudgetExceeded(self._message(tokens, dollars))
                await self._settled.wait()
            self._reserved.add(tokens, dollars)
        try:
            yield
        finally:
            async with self._settled:
                self._reserved.add(-tokens, -dollars)
                self._settled.notify_all()

    def _has_room(self, tokens: int, dollars: Decimal) -> bool:
        spent, reserved = self.spent, self._reserved
        enough = self.tokens is None or spent.tokens + reserved.tokens + tokens <= self.tokens
        return enough and (self.dollars is None or spent.dollars + reserved.dollars + dollars <= self.dollars)

    def _message(self, tokens: int, dollars: Decimal) -> str:
        budget = [f"{self.tokens:,} tokens"] if self.tokens is not None else []
        budget += [f"${self.dollars}"] if self.dollars is not None else []
        return (
            f"the budget of {' and '.join(budget)} has no room for the next request, which may take {tokens:,} tokens "
            f"(${dollars:.4f}): {self.spent.tokens:,} tokens (${self.spent.dollars:.4f}) are spent. Every answer is "
            "kept: use a larger budget to continue"
        )
