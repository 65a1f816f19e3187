"""Seeded arithmetic problems, worked out group by group.

Each stage reads the expression once, from left to right, and names the innermost groups. The executors work them out,
and the next stage has their values instead of the groups. Every line restates its operands, with one token per word::

    Name the groups:                                 the plan of (12 + 7 * 3) * 2 - (9 - 4)
     A (12 + 7 * 3)                                  each name is a subtask; the text after it is copied
     B * 2 - (9 - 4)
    12 + 7 * 3 : 7 * 3 = 21                          the first * or /, else the first + or -
    check 21 / 3 = 7 yes                             the inverse operation
    12 + 21 : 12 + 21 = 33
    check 33 - 21 = 12 yes
    A = 33

    Only numbers are left:                           the next plan: the same lines, with a value for each group
     C A 33 B * 2 - 5

A name after a space, `` A``, is a token that occurs only in plans and always before the same signs. To copy the
expression, a planner looks up what followed that name in the previous plan.
"""

import random
import re
from collections.abc import Iterator
from typing import Literal

from sprint_agents.nano.arithmetic import Arithmetic, Expression, Operation
from sprint_finetune.training.calls import Piece

from .countdown_search import LARGEST, NO_VALUE
from .splits import Split, split_of
from .traces import NAMES, Solution, SolutionStage, SolutionSubtask, slip

GROUPS = (2, 5)
OUTER = (0, 3)
OPERATIONS = (1, 4)
LEVELS = (1, 2)
NUMBERS = (1, 99)
VALUES = (1, LARGEST)

NAMING = "Name the groups:"
LAST = "Only numbers are left:\n"
PHRASES = ("Compute", " [", NAMING, LAST)
"""Words of these traces that are one token, in addition to ``traces.WORDS``."""

_INNERMOST = re.compile(r"[(\[]([^()\[\]]*)[)\]](\]*)")  # with the brackets that close after it
_WHOLE = re.compile("(.*)()")
_NAME = re.compile("[A-Z] ")
_UNDONE = {"+": "-", "-": "+", "*": "/", "/": "*"}

Kind = Literal["flat", "nested"]


def solve(task: Arithmetic, *, slips: float = 0.0, rng: random.Random | None = None) -> Solution:
    """Work a task out in stages: one for each level of groups, and one for the remaining numbers.

    A share of ``slips`` of the operations goes wrong at first and is repeated. ``rng`` decides which.

    Raises:
        ValueError: these traces cannot express the task.
    """
    if task.value.denominator != 1 or len(list(task.parsed.parts())) > len(NAMES):
        raise ValueError(
            f"{task.expression} has no trace: its values must be whole, and it may have {len(NAMES)} groups"
        )
    rng = rng or random.Random(task.prompt)
    names = iter(NAMES)
    stages: list[SolutionStage] = []
    text = task.expression
    while True:
        groups = list(_INNERMOST.finditer(text))
        subtasks: list[SolutionSubtask] = []
        lead, rest, copied = f"{NAMING}\n" if groups else LAST, "", 0
        for group, name in zip(groups or [_WHOLE.match(text)], names, strict=False):
            assert group is not None
            before = text[copied : group.start()].lstrip()
            value, lines = _work_out(_NAME.sub("", group[1]).strip(), slips, rng)
            subtasks.append(SolutionSubtask(name, (*lines, Piece(f"{name} = {value}\n", True)), heading=f"{name}:\n"))
            lead += f" {name} {before}{group[0]}\n"
            rest += f"{name} {before}{value}{group[2]} "
            copied = group.end()
        if text[copied:]:
            lead += f"{text[copied:]}\n"
        text = rest.rstrip() + text[copied:]
        stages.append(SolutionStage(lead, tuple(subtasks)))
        if not groups:
            return Solution(task, tuple(stages), f"\\boxed{{ {task.value}}}")


def problems(*, seed: int | str, split: Split, slips: float = 0.0) -> Iterator[Solution]:
    """Draw an endless sequence of problems of one split, each worked out.

    Half of the problems have nested groups. All intermediate values are whole and in ``VALUES``. ``solve`` explains
    ``slips``.
    """
    rng = random.Random(f"arithmetic:{seed}:{split}")
    while True:
        kind: Kind = rng.choice(("flat", "nested"))
        (count,) = rng.choices(range(GROUPS[0], GROUPS[1] + 1), weights=(1, 2, 4, 5))
        while True:
            expression = _draw(rng, kind, count)
            task = Arithmetic(expression=str(expression)) if expression and expression.levels else None
            if task and _outer(task.parsed) <= OUTER[1] and split_of(task) == split:
                yield solve(task, slips=slips, rng=rng)
                break


def _work_out(expression: str, slips: float, rng: random.Random) -> tuple[str, list[Piece]]:
    """Work out an expression that contains only numbers. Return its value and the lines."""
    lines: list[Piece] = []
    rest = expression
    for step in Expression.parse(expression).steps():
        opening = f"{rest} : {step.left} {step.sign} {step.right} ="
        if rng.random() < slips:
            wrong = slip(rng, int(step.value), largest=LARGEST)
            lines += [Piece(opening, True), Piece(f" {wrong}", False), Piece(f"\n{_check(step, wrong)}", True)]
        lines.append(Piece(f"{opening} {step.value}\n{_check(step, int(step.value))}", True))
        terms = rest.split()
        place = next((i for i, term in enumerate(terms) if term in "*/"), 1)
        terms[place - 1 : place + 2] = [str(step.value)]
        rest = " ".join(terms)
    return rest, lines


def _check(operation: Operation, value: int) -> str:
    """Apply the inverse operation to ``value`` and compare the result with its left operand."""
    sign = _UNDONE[operation.sign]
    (undone,) = Expression((value, int(operation.right)), (sign,)).steps()
    made = undone.value
    shown = made if made.denominator == 1 and 0 <= made <= LARGEST else NO_VALUE
    verdict = "yes" if made == operation.left else "no"
    return f"check {value} {sign} {operation.right} = {shown} {verdict}\n"


def _draw(rng: random.Random, kind: Kind, count: int) -> Expression | None:
    """Draw an expression of ``count`` groups of numbers, or None if its values would leave ``VALUES``."""
    groups: list[int | Expression] = []
    while len(groups) < count:
        if group := _draw_group(rng):
            groups.append(group)
    if kind == "nested":
        groups = _nest(rng, groups)
    elif rng.random() < 0.25 and len(groups) <= OPERATIONS[1]:
        groups.insert(rng.randrange(len(groups) + 1), rng.randint(1, 50))
    if len(groups) == 1:
        groups.insert(rng.randrange(2), rng.randint(1, 50))
    return _join(rng, groups)


def _nest(rng: random.Random, groups: list[int | Expression]) -> list[int | Expression]:
    """Put one to three consecutive groups into brackets, sometimes together with a number."""
    nested: list[int | Expression] = []
    bracketed = False
    while groups:
        inside = groups[: rng.randint(1, 3)]
        del groups[: len(inside)]
        if len(inside) == 1 and (bracketed or groups) and rng.random() < 0.5:
            nested += inside
            continue
        if len(inside) == 1 or rng.random() < 0.25:
            inside.insert(rng.randrange(len(inside) + 1), rng.randint(2, 20))
        joined = _join(rng, inside)
        bracketed = True
        nested += [joined] if joined else inside
    return nested


def _join(rng: random.Random, terms: list[int | Expression]) -> Expression | None:
    """Put signs between terms so that every value stays in ``VALUES``. Return None if no attempt succeeds."""
    for _ in range(12):
        signs = rng.choices("+-*/", weights=(4, 4, 2, 2), k=len(terms) - 1)
        expression = Expression(tuple(terms), tuple(signs))
        if OPERATIONS[0] <= len(signs) <= OPERATIONS[1] and _valid(expression):
            return expression
    return None


def _draw_group(rng: random.Random) -> Expression | None:
    """Draw a group of numbers.

    Products and quotients are small enough to stay in ``VALUES``, and every divisor divides its dividend.
    """
    (count,) = rng.choices(range(OPERATIONS[0], OPERATIONS[1] + 1), weights=(1, 2, 6, 8))
    signs = rng.choices("+-*/", weights=(3, 3, 3, 1), k=count)
    numbers: list[int] = []
    value = 0
    for before, after in zip(["+", *signs], [*signs, "+"], strict=True):
        if before == "*":
            number = rng.randint(2, max(2, min(12, VALUES[1] // value)))
            value *= number
        elif before == "/":
            divisors = [number for number in range(2, value + 1) if value % number == 0]
            number = rng.choice(divisors[:-1] or divisors or [1])
            value //= number
        else:
            largest = {"*": 15, "/": NUMBERS[1]}.get(after, 50)
            number = rng.randint(2 if after in "*/" else 1, largest)
            value = number
        numbers.append(number)
    expression = Expression(tuple(numbers), tuple(signs))
    return expression if max(numbers) <= NUMBERS[1] and _valid(expression) else None


def _outer(expression: Expression) -> int:
    """Count the groups that contain groups."""
    return sum(1 for part in expression.parts() if part.levels) - 1


def _valid(expression: Expression) -> bool:
    return all(step.value.denominator == 1 and VALUES[0] <= step.value <= VALUES[1] for step in expression.steps())
