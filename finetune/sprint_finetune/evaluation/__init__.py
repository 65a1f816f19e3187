"""Honest comparison of ways to solve the same problems: cases, methods, outcomes, summary, plots."""

from .cases import Case, held_out, load_cases
from .compare import compare
from .methods import Method
from .outcomes import Outcome, OutcomeFile
from .summary import Row, summarise

__all__ = ["Case", "Method", "Outcome", "OutcomeFile", "Row", "compare", "held_out", "load_cases", "summarise"]
