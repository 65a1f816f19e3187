"""Curated samples: read JSONL files and flatten each sample to tries."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import PreTrainedTokenizerBase

from sprint_agents.dialects.tags.dialect import TagDialect
from sprint_agents.errors import ConfigurationError
from sprint_agents.logs import log

from .calls import Call, as_one_text, calls_of
from .encoding import encode_calls
from .settings import Settings, Way
from .trie import Flattened, Shared, flatten

_NAMED = 3
"""How many samples an error message names."""
_WANTED = "give JSON lines, as `sprint-finetune curate` writes them"


class TrainingSample(BaseModel):
    """One line of a training file: a problem and its trajectory in tags. Other columns are ignored.

    Only problems that checkpoints solve during training need an ``answer``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    problem: str = Field(min_length=1)
    text: str = Field(min_length=1)
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class LengthLimits:
    """Maximum length of a path and of a row, in tokens. ``row_tokens`` is unlimited if it is None."""

    context: int
    row_tokens: int | None = None


def read_samples(paths: Iterable[Path]) -> list[TrainingSample]:
    """Read JSONL files with one sample per line.

    Raises:
        ConfigurationError: a file cannot be read, a line is not a sample, an id is repeated, or there are no samples.
    """
    samples: dict[str, TrainingSample] = {}
    names: list[str] = []
    for path in paths:
        names.append(str(path))
        for place, line in _lines(path):
            sample = _sample(place, line)
            if sample.id in samples:
                raise ConfigurationError(f"{place}: the id {sample.id!r} is not unique: give every sample its own id")
            samples[sample.id] = sample
    if not samples:
        raise ConfigurationError(f"{', '.join(names)} has no samples: check the curation's report.json for rejections")
    return [*samples.values()]


def build_tries(
    samples: Sequence[TrainingSample], tokenizer: PreTrainedTokenizerBase, settings: Settings, *, limits: LengthLimits
) -> list[Flattened]:
    """Turn samples into tries in the way that ``settings.way`` names. Samples that are too long are refused or skipped.

    Raises:
        ConfigurationError: a text is not a trajectory, a sample is too long, or no sample is left.
    """
    dialect = TagDialect.of(settings.manifest)
    made: list[Flattened] = []
    overlong: list[str] = []
    for sample in samples:
        try:
            calls = calls_of(sample.text, problem=sample.problem, dialect=dialect)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"sample {sample.id!r}: {error}. Remove it, or write the file again with `sprint-finetune curate`"
            ) from error
        parts = flatten_calls(calls, tokenizer, way=settings.way, shared=settings.shared)
        depth, longest = max(part.depth for part in parts), max(len(part) for part in parts)
        if depth > limits.context:
            overlong.append(f"{sample.id!r} has a path of {depth} tokens, over context = {limits.context}")
        elif limits.row_tokens is not None and longest > limits.row_tokens:
            overlong.append(f"{sample.id!r} makes {longest} tokens, over row_tokens = {limits.row_tokens}")
        else:
            made += parts
    if overlong:
        named = "; ".join(overlong[:_NAMED]) + ("; …" if len(overlong) > _NAMED else "")
        if settings.overlong == "error" or not made:
            raise ConfigurationError(
                f"{len(overlong)} of {len(samples)} samples are too long: {named}. "
                'Raise the limit, or set overlong = "skip" to train without them'
            )
        log("warning", "samples left out", logger=__name__, count=len(overlong), of=len(samples), why=named)
    return made


def flatten_calls(
    calls: Sequence[Call], tokenizer: PreTrainedTokenizerBase, *, way: Way, shared: Shared = "once"
) -> list[Flattened]:
    """Flatten the calls of one trajectory, the planner's first, in one of three ways.

    ``causal``: one sequence, with everything but the question learned. ``calls``: one sequence per call. ``trie``: one
    trie.
    """
    if way == "causal":
        return [flatten(encode_calls([as_one_text(calls[0])], tokenizer))]
    paths = encode_calls(calls, tokenizer)
    return [flatten(paths, shared=shared)] if way == "trie" else [flatten([path]) for path in paths]


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Return the lines of a file that are not blank, each with its position."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                line = line.removeprefix("\ufeff")  # as curation reads: a byte order mark, also between joined files
                if line.strip():
                    yield f"{path}:{number}", line
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the data {path} is not text in UTF-8 ({error.reason}): {_WANTED}") from error
    except OSError as error:
        raise ConfigurationError(f"the data {path} cannot be read: {error}") from error


def _sample(place: str, line: str) -> TrainingSample:
    try:
        content: object = json.loads(line)
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{place} has half of a surrogate pair, which no tokenizer reads: remove it"
        ) from error
    except (ValueError, RecursionError) as error:  # also numbers and nesting beyond Python's limits
        raise ConfigurationError(f"{place} is not valid JSON: {error}. Remove the line, or write it again") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{place} is not a JSON object with id, problem and text: {_WANTED}")
    try:
        return TrainingSample.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        columns = ", ".join(str(name) for name in content)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        raise ConfigurationError(f"{place} is not a sample: {faults}; its columns are {columns}") from error
