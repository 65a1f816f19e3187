"""Write the problems of the smollm2 recipe: receipts in plain words, worked out in one piece.

    python finetune/recipes/smollm2.py --count 2000 --out runs/smollm2/traces.jsonl
    python finetune/recipes/smollm2.py --held-out --count 60 --out runs/smollm2/held_out.jsonl

The first file is for ``sprint-finetune curate``, the second for ``sprint-finetune evaluate``. A hash of the problem
decides in which of the two it may occur.
"""

import argparse
import hashlib
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GOODS = (
    *("pencils", "cups", "lamps", "books", "chairs", "apples", "plates", "shirts", "hats", "balls", "maps", "brushes"),
    *("pens", "bags", "boxes", "candles", "clocks", "forks", "knives", "spoons", "bottles", "towels", "keys", "ropes"),
)
NAMES = "ABCD"
HELD_OUT = 10
"""One problem in this many is held out."""


@dataclass(frozen=True, slots=True)
class Item:
    """So many of one kind of goods, and the price of one in dollars."""

    count: int
    goods: str
    price: int

    def __str__(self) -> str:
        return f"{self.count} {self.goods} at {self.price}"

    @property
    def cost(self) -> int:
        """The price of all of them."""
        return self.count * self.price

    def work(self) -> str:
        """Multiply the tens and the ones, and add them."""
        ones = self.count - 10
        lines = (f"10*{self.price}={10 * self.price}", f"{ones}*{self.price}={ones * self.price}")
        return "\n".join((*lines, f"{10 * self.price}+{ones * self.price}={self.cost}"))


@dataclass(frozen=True, slots=True)
class Receipt:
    """A problem: three or four items."""

    items: tuple[Item, ...]

    @property
    def problem(self) -> str:
        """The problem in words."""
        *first, last = map(str, self.items)
        return f"What do {', '.join(first)} and {last} dollars each cost in all?"

    @property
    def answer(self) -> int:
        """The sum of all costs."""
        return sum(item.cost for item in self.items)

    @property
    def held_out(self) -> bool:
        """Whether the problem is never trained on."""
        return hashlib.sha256(self.problem.encode()).digest()[0] % HELD_OUT == 0

    def case(self) -> dict[str, str]:
        """Return the problem to evaluate."""
        return {"task": self.problem, "answer": str(self.answer)}

    def chain(self) -> dict[str, str]:
        """Return the problem to curate, with its trace."""
        return {"problem": self.problem, "trace": self.trace(), "answer": str(self.answer)}

    def trace(self) -> str:
        """Work the items out one after the other, and add them up at the end."""
        parts = [
            f"Now {name} = {item}\n{item.work()}\nso {name} = {item.cost}\n"
            for name, item in zip(NAMES, self.items, strict=False)
        ]
        costs = [item.cost for item in self.items]
        totals = itertools.accumulate(costs)
        sums = [f"{total}+{cost}={total + cost}\n" for total, cost in zip(totals, costs[1:], strict=False)]
        return f"{''.join(parts)}</think>\n{''.join(sums)}\\boxed{{{self.answer}}}\n"


def receipts(*, seed: int, held_out: bool) -> Iterator[Receipt]:
    """Draw an endless sequence of different problems of one split."""
    rng = random.Random(f"{seed}:{held_out}")
    seen: set[str] = set()
    while True:
        kinds = rng.sample(GOODS, rng.choice((3, 4)))
        receipt = Receipt(tuple(Item(rng.randint(11, 19), goods, rng.randint(2, 9)) for goods in kinds))
        # The curation's rules would take an equal cost for a reference to the other item.
        distinct = len({item.cost for item in receipt.items}) == len(receipt.items)
        if distinct and receipt.held_out == held_out and receipt.problem not in seen:
            seen.add(receipt.problem)
            yield receipt


def main() -> None:
    """Write one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", action="store_true", help="write problems to evaluate, which have no trace")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", encoding="utf-8") as file:
        for receipt in itertools.islice(receipts(seed=options.seed, held_out=options.held_out), options.count):
            file.write(json.dumps(receipt.case() if options.held_out else receipt.chain()) + "\n")


if __name__ == "__main__":
    main()
