"""The ``tasks`` of a ``sprint.json``: the problems that a small model was trained on."""

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from sprint_agents.errors import InvalidCheckpoint
from sprint_agents.manifest import FILE_NAME, Manifest

Bounds = tuple[int, int]
"""The lowest and the highest value, both included."""

_FROZEN = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class CountdownRange(BaseModel):
    """The Countdown problems that a model was trained on."""

    model_config = _FROZEN

    counts: tuple[int, ...]
    """How many numbers a problem may have."""
    numbers: Bounds
    targets: Bounds


class ArithmeticRange(BaseModel):
    """The expressions that a model was trained on."""

    model_config = _FROZEN

    groups: Bounds
    """How many groups hold only numbers."""
    outer: Bounds
    """How many groups hold other groups."""
    operations: Bounds
    """How many signs each group has, and the expression around the groups."""
    levels: Bounds
    """How deep groups are nested."""
    numbers: Bounds
    values: Bounds
    """The result of every operation, which must be a whole number."""


class MultiplicationRange(BaseModel):
    """The products that a model was trained on."""

    model_config = _FROZEN

    smaller: Bounds
    larger: Bounds
    products: Bounds


class TaskRanges(BaseModel):
    """The range of each kind of problem; None for a kind that the model was not trained on.

    >>> TaskRanges(multiplication=MultiplicationRange(smaller=(1, 9), larger=(1, 9), products=(1, 81))).kinds
    ('multiplication',)
    """

    model_config = _FROZEN

    countdown: CountdownRange | None = None
    arithmetic: ArithmeticRange | None = None
    multiplication: MultiplicationRange | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Read the ``tasks`` of a manifest.

        Raises:
            InvalidCheckpoint: they name an unknown kind of problem, or a range is not valid.
        """
        try:
            return cls.model_validate(manifest.tasks)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in ("tasks", *first["loc"]))
            raise InvalidCheckpoint(
                f"the {FILE_NAME} of {manifest.model} is not valid: {place}: {first['msg']}. "
                "Copy it again from where the weights came from"
            ) from error

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the kinds of problems that the model was trained on."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)
