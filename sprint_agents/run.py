"""The record of a run, finished or failed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, NamedTuple, cast

from pydantic import (
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    field_serializer,
    field_validator,
    model_validator,
)
from typing_extensions import TypeVar

from .json_values import dump_value, restore_value
from .plan import Failure, GenericRecord, ResultT, Stage
from .usage import Usage

AnswerT = TypeVar("AnswerT", default=str)


class Run(GenericRecord, Generic[AnswerT, ResultT]):
    """The answer of one run, its stages and its usage.

    ``answer`` has the planner's type. In a failed run it is None, whatever its type says, and ``error`` is set; only a
    run that failed after its answer, in the checker, has both.
    ``verified`` is the verdict of a checker; None without one. ``transcript`` is the planner's whole context as text,
    which ``Trajectory.from_text`` reads. All times in the record are seconds from ``origin``, the start of the run on
    the wall clock; None if it could not start. ``metadata`` is what the caller attached to the run.
    """

    id: str
    task: str
    policy: str
    origin: datetime | None = None
    answer: AnswerT = cast("AnswerT", None)
    verified: bool | None = None
    stages: tuple[Stage[ResultT], ...] = ()
    usage: Usage = Field(default_factory=Usage)
    error: Failure | None = None
    transcript: str = ""
    metadata: Mapping[str, JsonValue] = Field(default_factory=dict[str, JsonValue])

    @model_validator(mode="before")
    @classmethod
    def _with_text(cls, data: Any) -> Any:
        """Pass the text of a recorded answer to its validator; what a run itself makes has the type ``Any``."""
        if cls.model_fields["answer"].annotation is Any or not isinstance(data, Mapping):
            return data
        fields = cast("Mapping[str, Any]", data)
        stages = fields.get("stages")
        text = _answer_text(stages) if fields.get("error") is None else None
        return fields if text is None else {**fields, "answer": _Answer(fields.get("answer"), text)}

    @field_validator("answer", mode="wrap")
    @classmethod
    def _none_if_failed(cls, answer: Any, of_type: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(answer, _Answer):
            field = cls.model_fields["answer"]
            declared = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
            return restore_value(answer.value, answer.text, declared, of_type)
        return None if answer is None else of_type(answer)

    def _repr_html_(self) -> str:
        """Show the run as a chart, in a notebook."""
        from .viewer import render_frame  # most programs never show a run

        return render_frame(self.model_dump_json())

    @field_serializer("answer", mode="wrap", when_used="json")
    def _dump_answer(self, answer: Any, dump: SerializerFunctionWrapHandler) -> Any:
        return dump_value(answer, dump)


class _Answer(NamedTuple):
    """An answer in its JSON form, and the text from which it may have been read."""

    value: Any
    text: str


def _answer_text(stages: Any) -> str | None:
    """Return the answer of the last stage, which may be a record or its JSON form, valid or not."""
    last = cast("Sequence[Any]", stages)[-1] if isinstance(stages, list | tuple) and stages else None
    text: object = getattr(last, "answer", None)
    if isinstance(last, Mapping):
        text = cast("Mapping[str, object]", last).get("answer")
    return text if isinstance(text, str) else None
