"""Cut a finished trajectory into the calls of the run that would write it (PAPER, who sees what).

The planner's requests lie on one path: each context continues the one before. An executor's path leaves it at the end
of its prompt, goes on with a header and never meets a sibling. What stands between the models' words is written by the
runtime's own dialect, so a path has the pieces, and the token ids, that a run has.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from transformers import PreTrainedTokenizerBase

from sprint_agents.dialects.prompts import JoinedExecution
from sprint_agents.dialects.tags.dialect import TagDialect
from sprint_agents.dialects.tags.outline import Outline, PlanPart, outline
from sprint_agents.errors import ConfigurationError
from sprint_finetune.nano.traces import Call, Piece

from .trie import Sample


def calls_of(text: str, *, problem: str | None = None, dialect: TagDialect | None = None) -> list[Call]:
    r"""Cut a trajectory in tags into its calls: the planner's path, then the executors' in order; or one chain.

    ``text`` may begin with the question; ``problem`` is needed where it does not.

    >>> text = "6*7+1?\n<Plan_1>\n<prompt_1.1>6*7</prompt_1.1>\n</Plan_1>\n<Execution_1>\n<execution_1.1>\n42\n"
    >>> text += "</execution_1.1>\n</Execution_1>\n<Final_answer>\n\\boxed{43}\n</Final_answer>"
    >>> planner, executor = calls_of(text)
    >>> "".join(piece.text for piece in planner.pieces) == text
    True
    >>> [piece.text for piece in executor.pieces[-2:]]
    ['\n<execution_1.1>\n', '42\n</execution_']

    Raises:
        ConfigurationError: the text is no well-formed trajectory, or opens with another problem.
    """
    dialect = dialect or TagDialect.of(None)
    found = outline(text, dialect.tags)
    question = Piece(dialect.write_task(_task(found, problem)), False)
    if found.chain is not None and not found.plans:
        opening = dialect.write_opening(1, "chain")
        thought = found.chain.removeprefix("\n")  # the line break is the opening's
        written = f"{thought}{dialect.tags.chain.close}\n{_answer(found, dialect)}"
        return [Call("chain", (question, Piece(opening, False), Piece(written, True)))]
    pieces = [question]
    executors: list[Call] = []
    for number, part in enumerate(found.plans):
        lead = _lead(found, dialect) if number == 0 else ""
        plan = f"{lead}{dialect.tags.plan.of(part.number).open}"
        ends = {index: len(plan) + prompt.end for index, prompt in part.reader.prompts.items()}
        plan += part.text.removesuffix(dialect.tags.plan.of(part.number).close) + dialect.tags.stops.plan[0]
        before = tuple(Piece(piece.text, False) for piece in pieces)
        for index, end in ends.items():
            context = (*before, Piece(plan[:end], False), Piece(dialect.write_header(part.number, index), False))
            executors.append(Call("executor", (*context, Piece(_execution(part, index, dialect), True))))
        pieces += [Piece(plan, True), *_joined(part, plan, dialect)]
    pieces.append(Piece(_answer(found, dialect), True))
    return [Call("planner", tuple(pieces)), *executors]


def in_one(call: Call) -> Call:
    """Learn all that follows the question, executions and tags too: the paper's plain fine-tuning."""
    first, *rest = call.pieces
    return Call(call.role, (first, *(Piece(piece.text, True) for piece in rest)))


def encode_calls(calls: Sequence[Call], tokenizer: PreTrainedTokenizerBase) -> list[Sample]:
    """Encode the calls of one trajectory, its planner's first, to the ids that a run has.

    A piece is encoded on its own, as the runtime does. An executor's last plan is the beginning of the planner's: it
    takes the planner's ids; where a token reaches beyond the end, the rest before the end is encoded anew
    (``Generation.cut``). Each text is encoded once.

    Raises:
        ConfigurationError: the tokenizer does not say which characters its tokens stand for.
    """
    if not tokenizer.is_fast:
        raise ConfigurationError(
            f"{type(tokenizer).__name__} knows no offsets of its tokens: use the checkpoint's fast tokenizer "
            "(tokenizer.json)"
        )
    encoded = _encode((piece.text for call in calls for piece in call.pieces), tokenizer)
    cuts = [_cut(call, calls[0], encoded) for call in calls]
    rests = _encode((cut.rest for cut in cuts if cut is not None), tokenizer)
    samples: list[Sample] = []
    for call, cut in zip(calls, cuts, strict=True):
        parts = [encoded[piece.text].ids for piece in call.pieces]
        if cut is not None:
            parts[cut.piece] = [*cut.ids, *rests[cut.rest].ids]
        learned = [piece.learned for piece, part in zip(call.pieces, parts, strict=True) for _ in part]
        samples.append(Sample([*chain.from_iterable(parts)], learned))
    return samples


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The ids of a text, and where each token ends in it."""

    ids: list[int]
    ends: list[int]


@dataclass(frozen=True, slots=True)
class _Cut:
    """The piece at which a path leaves the planner's: the planner's ids up to there, and the rest as text."""

    piece: int
    ids: list[int]
    rest: str


def _cut(call: Call, planner: Call, encoded: Mapping[str, _Encoded]) -> _Cut | None:
    for index, (piece, whole) in enumerate(zip(call.pieces, planner.pieces, strict=False)):
        if piece.text != whole.text:
            if not whole.text.startswith(piece.text):
                return None
            trunk = encoded[whole.text]
            kept = bisect_right(trunk.ends, len(piece.text))
            return _Cut(index, trunk.ids[:kept], piece.text[trunk.ends[kept - 1] if kept else 0 :])
    return None


def _encode(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, _Encoded]:
    unique = [*dict.fromkeys(texts)]
    if not unique:
        return {}
    found = tokenizer(unique, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return {
        text: _Encoded(ids, [end for _, end in offsets])
        for text, ids, offsets in zip(unique, found["input_ids"], found["offset_mapping"], strict=True)
    }


def _task(found: Outline, problem: str | None) -> str:
    """Return the problem of a trajectory that is as it should be."""
    if found.diagnostics:
        raise ConfigurationError(
            "this is no well-formed trajectory: "
            + "; ".join(f"{fault.message} (at character {fault.position})" for fault in found.diagnostics[:3])
        )
    asked = found.question.strip()
    if problem is None and not asked:
        raise ConfigurationError("the trajectory opens with no question: give its problem")
    if problem is not None and asked not in ("", problem.strip()):
        raise ConfigurationError(f"the trajectory opens with {asked[:80]!r}, which is not its problem {problem[:80]!r}")
    return asked if problem is None else problem.strip()


def _lead(found: Outline, dialect: TagDialect) -> str:
    """Write the chain of thought that the planner wrote before its first plan."""
    pair = dialect.tags.chain
    return "" if found.chain is None else f"{pair.open}{found.chain}{pair.close}\n"


def _answer(found: Outline, dialect: TagDialect) -> str:
    pair = dialect.tags.answer
    return f"{pair.open}{found.answer}{pair.close}"


def _execution(part: PlanPart, index: int, dialect: TagDialect) -> str:
    return part.executions[index] + dialect.tags.stops.execution[0]


def _joined(part: PlanPart, plan: str, dialect: TagDialect) -> Iterator[Piece]:
    """Write what the planner reads behind its plan, in the pieces in which the runtime appends it."""
    joined = [JoinedExecution(index, _execution(part, index, dialect), generated=True) for index in part.reader.prompts]
    *before, end = dialect.write_join(part.number, joined, plan=plan)
    for text, execution in zip(before, joined, strict=True):
        yield Piece(text, False)
        yield Piece(execution.text, False)
    yield Piece(end, False)
