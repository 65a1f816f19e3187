"""The record of a run, finished or not."""

from typing import Any, Generic

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from .plan import Failure, Stage
from .usage import Usage

AnswerT = TypeVar("AnswerT", default=str)


class Run(BaseModel, Generic[AnswerT]):
    """What one run did and found.

    ``verified`` says whether a program checked the ``answer`` and found it right or wrong; None where no checker
    knows the task. ``error`` is None exactly where the run came to an answer. ``transcript`` is the planner's whole
    context as text; it parses back with ``Trajectory.from_text``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    task: str
    policy: str
    answer: AnswerT | None = None
    verified: bool | None = None
    stages: tuple[Stage[Any], ...] = ()
    usage: Usage = Usage()
    error: Failure | None = None
    transcript: str = ""
