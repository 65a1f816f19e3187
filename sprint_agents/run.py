"""The record of a run, finished or not."""

from typing import Any, Generic, cast

from pydantic import BaseModel, ConfigDict, ValidatorFunctionWrapHandler, field_validator
from typing_extensions import TypeVar

from .plan import Failure, ResultT, Stage
from .usage import Usage

AnswerT = TypeVar("AnswerT", default=str)


class Run(BaseModel, Generic[AnswerT, ResultT]):
    """What one run did and found.

    ``answer`` is of the planner's type in a run that came to one. Where ``error`` is set it is None, whatever its type
    says. ``verified`` says whether a program checked the answer and found it right or wrong; None where no checker
    knows the task. ``transcript`` is the planner's whole context as text; it parses back with ``Trajectory.from_text``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    task: str
    policy: str
    answer: AnswerT = cast("AnswerT", None)
    verified: bool | None = None
    stages: tuple[Stage[ResultT], ...] = ()
    usage: Usage = Usage()
    error: Failure | None = None
    transcript: str = ""

    @field_validator("answer", mode="wrap")
    @classmethod
    def _none_if_failed(cls, answer: Any, of_type: ValidatorFunctionWrapHandler) -> Any:
        return None if answer is None else of_type(answer)
