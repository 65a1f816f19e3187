"""Encode the calls of a trajectory to the token ids of a run."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import cast

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from sprint_agents.engines.encoding import EncodedText, TextEncoder
from sprint_agents.errors import ConfigurationError
from sprint_agents.markup import PromptText, spans_of

from .calls import Call
from .trie import TokenPath

_Key = tuple[str, tuple[tuple[int, int], ...]]
"""A text and its markup: texts that are equal may have different ids."""


def encode_calls(calls: Sequence[Call], tokenizer: PreTrainedTokenizerBase) -> list[TokenPath]:
    """Encode the calls of one trajectory, the planner's first, to the ids that a run has.

    Each piece is encoded by itself, as in the runtime. An executor's last plan is a prefix of the planner's plan, so
    it reuses the planner's ids. A planner token may extend past the end of that prefix, as ``.1>`` does where the
    prompt ends after ``.1``. The executor drops such a token and encodes the remaining text again, as
    ``Generation.cut`` does in a run. Each distinct text is encoded once.

    Raises:
        ConfigurationError: the tokenizer does not report the characters of its tokens.
    """
    if not tokenizer.is_fast:
        raise ConfigurationError(
            f"{type(tokenizer).__name__} does not report the offsets of its tokens: use the checkpoint's fast "
            "tokenizer (tokenizer.json)"
        )
    encoder = TextEncoder(cast("Tokenizer", tokenizer.backend_tokenizer))
    encoded = _encode((piece.text for call in calls for piece in call.pieces), encoder)
    cuts = [_cut(call, calls[0], encoded) for call in calls]
    rests = _encode((cut.rest for cut in cuts if cut is not None), encoder)
    paths: list[TokenPath] = []
    for call, cut in zip(calls, cuts, strict=True):
        parts = [encoded[_key(piece.text)].ids for piece in call.pieces]
        if cut is not None:
            parts[cut.piece] = [*cut.ids, *rests[_key(cut.rest)].ids]
        learned = [piece.learned for piece, part in zip(call.pieces, parts, strict=True) for _ in part]
        paths.append(TokenPath([*chain.from_iterable(parts)], learned))
    return paths


@dataclass(frozen=True, slots=True)
class _Cut:
    """The piece at which a path leaves the planner's: the planner's whole tokens before the cut, and the text left."""

    piece: int
    ids: list[int]
    rest: str


def _cut(call: Call, planner: Call, encoded: Mapping[_Key, EncodedText]) -> _Cut | None:
    for index, (piece, whole) in enumerate(zip(call.pieces, planner.pieces, strict=False)):
        if piece.text != whole.text:
            if not whole.text.startswith(piece.text):
                return None
            trunk = encoded[_key(whole.text)]
            kept = bisect_right(trunk.ends, len(piece.text))
            return _Cut(index, trunk.ids[:kept], piece.text[trunk.ends[kept - 1] if kept else 0 :])
    return None


def _key(text: str) -> _Key:
    return str(text), spans_of(text)


def _encode(texts: Iterable[str], encoder: TextEncoder) -> dict[_Key, EncodedText]:
    unique = list({_key(text): PromptText(text, spans_of(text)) for text in texts}.items())
    return dict(zip((key for key, _ in unique), encoder.encode_all(text for _, text in unique), strict=True))
