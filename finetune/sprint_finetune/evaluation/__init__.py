"""Compare ways to solve the same problems: cases, methods, outcomes, summary, plots."""

from .cases import Case, held_out, held_out_problems, load_cases
from .comparison import Check, by_program, compare, grader
from .methods import Method
from .outcomes import Outcome, OutcomeFile
from .plots import draw
from .summary import Row, markdown, summarise

__all__ = [
    "Case",
    "held_out",
    "held_out_problems",
    "load_cases",
    "Method",
    "compare",
    "Check",
    "by_program",
    "grader",
    "Outcome",
    "OutcomeFile",
    "summarise",
    "Row",
    "markdown",
    "draw",
]
