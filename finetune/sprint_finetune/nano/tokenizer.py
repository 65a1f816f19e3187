"""The tokenizer of sprint-nano: bytes, whole numbers, and the few phrases of its traces.

It is an ordinary byte-level BPE without merges. A pre-token that is in the vocabulary is one token
(``ignore_merges``). All other text falls back to bytes, so any text can be encoded and decoded exactly. The constant
first part of each tag is one special token, so a closing tag is a stop id.
"""

# pyright: reportUnknownMemberType=false
# The annotations of torch and transformers are partial.

import re

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sprint_agents.dialects.tags.format import load_tags

from . import arithmetic, multiplication
from .countdown import NOTHING, PLAN_OPENINGS
from .countdown_search import LARGEST, NO_VALUE, OPS
from .traces import WORDS

END, PADDING = "<|end|>", "<|pad|>"

PHRASES = (
    "Use",
    " to make",
    ",",
    ".\n",
    " =",
    " left",
    " for",
    " :",
    f" {NO_VALUE}",
    " yes\n",
    " no\n",
    "found",
    " ,",
    "answer",
    "none\n",
    *(f" {op}" for op in OPS),
    " (",
    NOTHING,
    "\\boxed{",
    "}\n",
    *PLAN_OPENINGS,
)
"""The vocabulary of Countdown, in the order of the token ids."""

LATER_PHRASES = (*WORDS, *arithmetic.PHRASES, *multiplication.PHRASES)
"""Phrases of the tasks that were added after Countdown. A token's id is its position, so append new phrases."""

_STAGES = range(1, 13)
_SUBTASKS = range(1, 65)
_SHORT_STAGES = range(1, 5)
"""The stages in which a whole label, such as ``1.2>``, is one token."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer. The vocabulary depends only on this module and the tag dialect."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    wholes = [
        *(str(number) for number in range(10, LARGEST + 1)),
        *(f" {number}" for number in range(LARGEST + 1)),  # within a line; a line starts with the bare form
        *(f"{stage}." for stage in _STAGES),  # in tags: <prompt_ | 1. | 2>
        *(f"{number}>" for number in _SUBTASKS),
        *PHRASES,
        *(f"{stage}.{number}>" for stage in _SHORT_STAGES for number in _SUBTASKS),  # the rest of most tags
        *LATER_PHRASES,
    ]
    special = [END, PADDING, *load_tags(1).special_tokens]
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    for whole in wholes:
        vocabulary.setdefault(_byte_level(whole), len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    longest_first = sorted((*PHRASES, *LATER_PHRASES), key=len, reverse=True)
    phrases = "|".join(re.escape(phrase) for phrase in longest_first)
    # A number up to LARGEST is one token. A larger number is one token per digit.
    number = rf" ?(?<!\d)(?:{'|'.join(str(number) for number in range(LARGEST, -1, -1))})(?!\d)"
    label = rf"[{_SHORT_STAGES[0]}-{_SHORT_STAGES[-1]}]\.\d{{1,2}}>"
    pattern = rf"{label}|\d{{1,2}}\.(?=\d+>)|\d{{1,2}}>|{phrases}|{number}|\d|[^\d]"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PADDING,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )


def _byte_level(text: str) -> str:
    ((piece, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return piece
