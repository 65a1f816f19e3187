"""What a dialect reports about a text that is not as it should be; reading never raises on what a model wrote."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

DiagnosticKind = Literal[
    # Of a tag's form and number.
    "misspelt_tag",
    "wrong_number",
    "duplicate_number",
    "skipped_number",
    # Of a tag's place.
    "unopened_tag",
    "unexpected_tag",
    "prompt_outside_plan",
    "nested_prompt",
    "answer_in_plan",
    # Of a text that is to be JSON.
    "malformed_json",
    # Of what a subtask is to wait for.
    "odd_dependency",
    # Of something that has no end, or nothing in it.
    "unclosed_plan",
    "unclosed_prompt",
    "unclosed_execution",
    "unclosed_answer",
    "empty_prompt",
    "empty_answer",
    # Of text where none belongs.
    "text_outside",
    "text_after_answer",
    # Of a finished trajectory as a whole.
    "missing_execution",
    "stray_execution",
    "no_plan",
    "no_answer",
    "undecodable_bytes",
]
"""The closed set of things that can be wrong with what a model wrote, or with the file that it is in."""


class Diagnostic(BaseModel):
    """One thing that is wrong with a text, and how it was understood nevertheless.

    ``position`` is an offset in characters into the text that was read; ``stage`` is 0 where no stage is concerned,
    ``number`` the subtask's number within its stage, if one is concerned.

    >>> Diagnostic(kind="empty_prompt", message="prompt 1.2 is empty", stage=1, number=2, position=70).kind
    'empty_prompt'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    kind: DiagnosticKind
    message: str
    stage: int
    number: int | None = None
    position: int
