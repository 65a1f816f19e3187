"""Seeded multiplications, worked out digit by digit.

Each digit of the larger number is a subtask. The next stage adds the partial products. Every digit has the name of its
place, so a model never has to count digits::

    347 : units 7 tens 4 hundreds 3                  the plan; a subtask is `A = 347 * 8 units`
    2518 : thousands 2 hundreds 5 tens 1 units 8
    units 7 * 8 = 56 , 56 + 0 = 56 : units 6 carry 5
    tens 4 * 8 = 32 , 32 + 5 = 37 : tens 7 carry 3
    hundreds 3 * 8 = 24 , 24 + 3 = 27 : hundreds 7 carry 2
    carry 2 : thousands 2
    check 7 + 4 = 11 , 11 + 3 = 14 : nines 5         casting out nines: of 347,
    check 5 * 8 = 40 : nines 4                       times 8,
    check 6 + 7 = 13 , 13 + 7 = 20 , 20 + 2 = 22 : nines 4 yes
    so A = units 6 tens 7 hundreds 7 thousands 2

    tens A 7 + B 4 = 11 + 0 = 11 : 1 6               the sum: the digits of a place, the carry, all digits so far
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sprint_agents.nano.multiplication import Multiplication
from sprint_finetune.training.calls import Piece

from .countdown_search import LARGEST
from .splits import Split, split_of
from .traces import NAMES, Solution, SolutionStage, SolutionSubtask, slip

SMALLER = (10, 999)
LARGER = (10, 9999)
PRODUCTS = (LARGEST + 1, SMALLER[1] * LARGER[1])
"""A product up to ``LARGEST`` would be a single token, while larger ones have one token per digit."""

PLACES: tuple[str, ...] = ("units", "tens", "hundreds", "thousands", "ten-thousands", "hundred-thousands", "millions")
ADDING = "Add the columns:\n"
PHRASES = ("Multiply", " by", *PLACES, *(f" {place}" for place in PLACES), "carry", " carry", " nines", ADDING)
"""Words of these traces that are one token, in addition to ``traces.WORDS``."""


def solve(task: Multiplication, *, slips: float = 0.0, rng: random.Random | None = None) -> Solution:
    """Work a task out in two stages: the partial products, then their sum.

    A share of ``slips`` of the partial products goes wrong at first and is repeated. ``rng`` decides which.

    Raises:
        ValueError: the product has more digits than there are named places.
    """
    small, large = task.factors
    digits, multiplier = _digits(small), _digits(large)
    if len(digits) + len(multiplier) > len(PLACES):
        raise ValueError(f"{small} * {large} has no trace: products may have {len(PLACES)} digits")
    rng = rng or random.Random(task.prompt)
    partials: list[dict[str, int]] = []
    subtasks: list[SolutionSubtask] = []
    for name, shift, digit in zip(NAMES, itertools.count(), multiplier, strict=False):
        wrong = _multiply(digits, digit, shift, slip_at=rng) if rng.random() < slips else None
        right = _multiply(digits, digit, shift)
        partials.append(right.digits)
        pieces = (*(wrong.pieces if wrong else ()), *right.pieces, Piece(f"so {name} ={_placed(right.digits)}\n", True))
        subtasks.append(_subtask(f"{name} = {small} * {digit} {PLACES[shift]}", pieces))
    name = NAMES[len(partials)]
    total = Piece(f"{_add(partials)}so {name} = {small * large}\n", True)
    sum_of = _subtask(f"{name} = {' + '.join(NAMES[: len(partials)])}", (total,))
    first = dict(zip(PLACES, digits, strict=False))
    second = dict(reversed([*zip(PLACES, multiplier, strict=False)]))  # in the order of the number's digits
    lead = f"{small} :{_placed(first)}\n{large} :{_placed(second)}\n"
    stages = (SolutionStage(lead, tuple(subtasks)), SolutionStage(ADDING, (sum_of,)))
    return Solution(task, stages, f"\\boxed{{ {small * large}}}")


def problems(*, seed: int | str, split: Split, slips: float = 0.0) -> Iterator[Solution]:
    """Draw an endless sequence of problems of one split, each worked out.

    The factors have 2 or 3 and 2 to 4 digits, with more digits more often. ``solve`` explains ``slips``.
    """
    rng = random.Random(f"multiplication:{seed}:{split}")
    while True:
        first = rng.choice((2, 3))
        (second,) = rng.choices((2, 3, 4), weights=(1, 2, 3))
        while True:
            numbers = [rng.randrange(10 ** (count - 1), 10**count) for count in (first, second)]
            task = Multiplication(first=min(numbers), second=max(numbers))
            if task.first * task.second >= PRODUCTS[0] and split_of(task) == split:
                yield solve(task, slips=slips, rng=rng)
                break


def _subtask(prompt: str, pieces: tuple[Piece, ...]) -> SolutionSubtask:
    return SolutionSubtask(prompt, pieces, heading=f"Now {prompt}\n")


def _digits(number: int) -> list[int]:
    """Return the digits, starting with the units."""
    return [int(digit) for digit in reversed(str(number))]


def _placed(digits: dict[str, int]) -> str:
    return "".join(f" {place} {digit}" for place, digit in digits.items())


@dataclass(frozen=True, slots=True)
class _Partial:
    digits: dict[str, int]
    """Digit by place, starting with the units."""
    pieces: tuple[Piece, ...]


def _multiply(digits: Sequence[int], by: int, shift: int, *, slip_at: random.Random | None = None) -> _Partial:
    """Multiply digits by one digit, starting with the units.

    With ``slip_at``, one product is wrong, and the check reports it.
    """
    slipping = slip_at.randrange(len(digits)) if slip_at else None
    made: dict[str, int] = {}
    carry = 0
    pieces: list[Piece] = []
    for place, digit in enumerate(digits):
        product = digit * by
        if slip_at and place == slipping:
            product = slip(slip_at, product, largest=9 * 9)
        total = product + carry
        pieces += [Piece(f"{PLACES[place]} {digit} * {by} =", True), Piece(f" {product}", place != slipping)]
        line = f" , {product} + {carry} = {total}"
        carry, made[PLACES[place + shift]] = divmod(total, 10)
        pieces.append(Piece(f"{line} : {PLACES[place + shift]} {total % 10} carry {carry}\n", True))
    last = PLACES[len(digits) + shift]
    made[last] = carry
    nines = sum(digits) % 9
    expected, got = nines * by % 9, sum(made.values()) % 9
    lines = f"carry {carry} : {last} {carry}\n"
    lines += f"check {_running(digits)} : nines {nines}\n"
    lines += f"check {nines} * {by} = {nines * by} : nines {expected}\n"
    lines += f"check {_running(list(made.values()))} : nines {got} {'yes' if got == expected else 'no'}\n"
    return _Partial(made, (*pieces, Piece(lines, True)))


def _running(digits: Sequence[int]) -> str:
    totals = list(itertools.accumulate(digits))
    return " , ".join(f"{total} + {digit} = {total + digit}" for total, digit in zip(totals, digits[1:], strict=False))


def _add(partials: Sequence[dict[str, int]]) -> str:
    """Add partial products place by place: the digits of the place, the carry, and the digits of the sum so far."""
    lines = ""
    carry = 0
    written = ""
    for place in PLACES:
        terms = [(name, partial[place]) for name, partial in zip(NAMES, partials, strict=False) if place in partial]
        if not terms:
            break
        total = 0
        for index, (name, digit) in enumerate(terms):
            total += digit
            lines += f" + {name} {digit} = {total}" if index else f"{place} {name} {digit}"
        total += carry
        written = f" {total % 10}{written}"
        lines += f" + {carry} = {total} :{written}\n"
        carry = total // 10
    return lines
