"""Compare ways to solve the same problems: cases, methods, outcomes, summary, tables, plots."""

from .case_files import BadCase, CaseFile, load_cases
from .cases import Case, held_out, held_out_problems
from .checks import Check, by_program, grader
from .comparison import Methods, compare
from .outcomes import Outcome, OutcomeFile
from .plots import draw
from .summary import Row, summarise
from .tables import as_csv, as_json, markdown

__all__ = [
    "Case",
    "held_out",
    "held_out_problems",
    "load_cases",
    "CaseFile",
    "BadCase",
    "Methods",
    "compare",
    "Check",
    "by_program",
    "grader",
    "Outcome",
    "OutcomeFile",
    "summarise",
    "Row",
    "markdown",
    "as_csv",
    "as_json",
    "draw",
]
