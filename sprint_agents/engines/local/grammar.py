"""Constrained decoding: completions that satisfy a JSON schema, by llguidance.

Keywords that llguidance does not support are left out of the grammar (``engines.schemas``).

The JSON is formatted as ``json.dumps`` does it: one space after commas and colons and no other white space, with
properties in the order of the schema. After a complete value the model can only end the completion.
"""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sprint_agents.engine import THOUGHTS, Thoughts
from sprint_agents.engines.schemas import JsonSchema, parse_schema, weaken
from sprint_agents.errors import InvalidRequest, MissingExtra

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from tokenizers import Tokenizer
    from torch import Tensor

_COMPILED_SCHEMAS = 64
"""How many schemas are kept compiled."""
_MOST_BREAKS = 2


class Grammar:
    """Restricts the next token of one completion; ``end_ids`` may end it once its value is complete.

    Thoughts at the beginning are free: with ``open`` up to the mark that closes them, with ``may`` if the first token
    opens them. After them a few line breaks are free too, as models write them there.
    """

    __slots__ = ("_breaks", "_end_ids", "_free", "_marks", "_matcher", "_tail", "_thoughts")

    def __init__(
        self, matcher: "LLMatcher", end_ids: Iterable[int], *, marks: "ThoughtMarks", thoughts: Thoughts = "none"
    ) -> None:
        self._matcher = matcher
        self._end_ids = list(end_ids)
        self._thoughts: Thoughts = thoughts
        self._tail = ""
        # Tokens that are allowed besides those of the schema, and how many of them after the thoughts.
        self._breaks = _MOST_BREAKS
        self._free: frozenset[int] = marks.opening if thoughts == "may" else frozenset()
        self._marks = marks

    def restrict(self, logits: "Tensor") -> None:
        """Set the logits, ``[vocabulary]``, of tokens that the schema forbids to minus infinity."""
        import torch

        if self._thoughts == "open":
            return
        # One byte per token; 0 forbids it.
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8).bool()
        if len(allowed) < len(logits):
            allowed = torch.nn.functional.pad(allowed, (0, len(logits) - len(allowed)))
        allowed = allowed[: len(logits)].clone()
        if self._matcher.is_accepting():
            allowed[self._end_ids] = True
        if self._free:
            allowed[list(self._free)] = True
        logits.masked_fill_(~allowed.to(logits.device), float("-inf"))

    def advance(self, tokens: Sequence[int]) -> bool:
        """Advance by all ``tokens``, which were generated earlier; return False if the schema forbids them."""
        return all(self._take(token) for token in tokens)

    def accept(self, token: int) -> None:
        """Advance by a sampled token. Do not call it for a token that ends the completion."""
        if not self._take(token):
            raise AssertionError(f"a token was sampled that the schema forbids: {self._matcher.get_error()}")

    def _take(self, token: int) -> bool:
        if self._thoughts == "open":
            self._tail = self._tail[-len(THOUGHTS[1]) :] + self._marks.decode(token)
            if THOUGHTS[1] in self._tail:
                self._thoughts, self._free = "none", self._marks.breaks
            return True
        if token in self._free:
            if self._thoughts == "may":
                self._thoughts = "open"
            else:
                self._breaks -= 1
                self._free = self._free if self._breaks else frozenset()
            return True
        self._thoughts, self._free = "none", frozenset()
        return bool(self._matcher.consume_token(token))


class ThoughtMarks:
    """The tokens around thoughts in one vocabulary.

    Attributes:
        opening: the token that opens them, if it is one.
        breaks: line breaks, which may follow them before the JSON.
    """

    __slots__ = ("_tokenizer", "breaks", "opening")

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self.opening = self._single(THOUGHTS[0])
        self.breaks = self._single("\n\n") | self._single("\n")

    def decode(self, token: int) -> str:
        """Return the text of a token, which may be a part of a character."""
        return self._tokenizer.decode([token], skip_special_tokens=False)

    def _single(self, text: str) -> frozenset[int]:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return frozenset(ids if len(ids) == 1 else ())


class GrammarCompiler:
    """Compiles schemas to grammars over the tokens of one model, and remembers the recent ones."""

    def __init__(self, tokenizer: "Tokenizer", *, vocabulary: int, end_ids: frozenset[int]) -> None:
        from llguidance import LLTokenizer

        ends = sorted(end_ids) or [0]
        self._tokenizer = LLTokenizer(tokenizer.to_str(), n_vocab=vocabulary, eos_token=ends)
        self._marks = ThoughtMarks(tokenizer)
        self._matcher = lru_cache(maxsize=_COMPILED_SCHEMAS)(self._compile)

    def compile(self, schema: str, *, end_ids: Iterable[int], thoughts: Thoughts = "none") -> Grammar:
        """Make the grammar of one completion."""
        return Grammar(self._matcher(schema).deep_copy(), end_ids, marks=self._marks, thoughts=thoughts)

    def _compile(self, schema: str) -> "LLMatcher":
        from llguidance import LLMatcher

        return LLMatcher(self._tokenizer, _rules(schema))


@lru_cache(maxsize=_COMPILED_SCHEMAS)
def check_schema(schema: str, *, what: str = "the completion") -> None:
    """Check that llguidance can enforce a schema, without the keywords that it does not support.

    ``what`` names the owner of the schema in the error.

    Raises:
        InvalidRequest: it is not a JSON schema, or is too large or too deep.
        MissingExtra: llguidance is not installed.
    """
    if find_spec("llguidance") is None:
        raise MissingExtra("local", "llguidance")
    try:
        error = _fault(_rules(schema))
    except InvalidRequest as wrong:
        error = str(wrong)
    if error:
        raise InvalidRequest(
            f"this engine cannot hold a model to the schema of {what}: {error}. Declare the type with "
            "pydantic models, dataclasses and plain types such as int or list[str]"
        )


@lru_cache(maxsize=_COMPILED_SCHEMAS)
def _rules(schema: str) -> str:
    """Return the rules for a schema, without the keywords that llguidance does not support."""
    whole = parse_schema(schema)
    rules = _rules_of(whole)
    return _rules_of(weaken(whole, _is_supported)) if _fault(rules) else rules


def _is_supported(schema: JsonSchema) -> bool:
    return not _fault(_rules_of(schema))


def _fault(rules: str) -> str:
    """Return why llguidance refuses rules; nothing if it does not."""
    from llguidance import LLMatcher

    try:
        error = LLMatcher.validate_grammar(rules)
    except ValueError as wrong:
        error = str(wrong)
    return "" if not error or error.startswith("WARNING") else error.splitlines()[0]


def _rules_of(schema: JsonSchema) -> str:
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(
        json.dumps(schema), overrides={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    )
