"""The faults that a dialect reports in a text; reading never raises on what a model wrote."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

DiagnosticKind = Literal[
    # The form and number of a tag.
    "misspelt_tag",
    "wrong_number",
    "duplicate_number",
    "skipped_number",
    # The place of a tag.
    "unopened_tag",
    "unexpected_tag",
    "prompt_outside_plan",
    "nested_prompt",
    "answer_in_plan",
    # JSON.
    "malformed_json",
    # Dependencies.
    "odd_dependency",
    # Unclosed and empty parts.
    "unclosed_plan",
    "unclosed_prompt",
    "unclosed_execution",
    "unclosed_answer",
    "empty_prompt",
    "empty_answer",
    # Text between the parts.
    "text_outside",
    "text_after_answer",
    # A finished trajectory as a whole.
    "missing_execution",
    "stray_execution",
    "no_plan",
    "no_answer",
    "undecodable_bytes",
]
"""The closed set of faults in what a model wrote, or in the file that contains it."""


class Diagnostic(BaseModel):
    """One fault in a text, and how it was read nevertheless.

    ``position`` is a character offset into the text. ``stage`` is 0 if the fault concerns no stage, and ``number`` is
    the subtask's number within its stage, if it concerns one.

    >>> Diagnostic(kind="empty_prompt", message="prompt 1.2 is empty", stage=1, number=2, position=70).kind
    'empty_prompt'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    kind: DiagnosticKind
    message: str
    stage: int
    number: int | None = None
    position: int


def excerpt(text: str) -> str:
    """Quote the beginning of ``text``, in one line."""
    return repr(text if len(text) <= 40 else text[:40] + "…")
