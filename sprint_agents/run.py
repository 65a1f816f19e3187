"""The record of a run, finished or failed."""

from typing import Any, Generic, cast

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, field_validator
from typing_extensions import TypeVar

from .plan import Failure, ResultT, Stage
from .usage import Usage

AnswerT = TypeVar("AnswerT", default=str)


class Run(BaseModel, Generic[AnswerT, ResultT]):
    """The answer of one run, its stages and its usage.

    ``answer`` has the planner's type. In a failed run it is None, whatever its type says, and ``error`` is set.
    ``verified`` is the verdict of a checker; None without one. ``transcript`` is the planner's whole context as text,
    which ``Trajectory.from_text`` reads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    id: str
    task: str
    policy: str
    answer: AnswerT = cast("AnswerT", None)
    verified: bool | None = None
    stages: tuple[Stage[ResultT], ...] = ()
    usage: Usage = Field(default_factory=Usage)
    error: Failure | None = None
    transcript: str = ""

    @field_validator("answer", mode="wrap")
    @classmethod
    def _none_if_failed(cls, answer: Any, of_type: ValidatorFunctionWrapHandler) -> Any:
        return None if answer is None else of_type(answer)
