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

from sprint_agents.engines.schemas import JsonSchema, parse_schema, weaken
from sprint_agents.errors import InvalidRequest, MissingExtra

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from tokenizers import Tokenizer
    from torch import Tensor

_COMPILED_SCHEMAS = 64
"""How many schemas are kept compiled."""


class Grammar:
    """Restricts the next token of one completion; ``end_ids`` may end it once its value is complete."""

    __slots__ = ("_end_ids", "_matcher")

    def __init__(self, matcher: "LLMatcher", end_ids: Iterable[int]) -> None:
        self._matcher = matcher
        self._end_ids = list(end_ids)

    def restrict(self, logits: "Tensor") -> None:
        """Set the logits, ``[vocabulary]``, of tokens that the schema forbids to minus infinity."""
        import torch

        # One byte per token; 0 forbids it.
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8).bool()
        if len(allowed) < len(logits):
            allowed = torch.nn.functional.pad(allowed, (0, len(logits) - len(allowed)))
        allowed = allowed[: len(logits)].clone()
        if self._matcher.is_accepting():
            allowed[self._end_ids] = True
        logits.masked_fill_(~allowed.to(logits.device), float("-inf"))

    def advance(self, tokens: Sequence[int]) -> bool:
        """Advance by all ``tokens``, which were generated earlier; return False if the schema forbids them."""
        return not tokens or self._matcher.consume_tokens(list(tokens))

    def accept(self, token: int) -> None:
        """Advance by a sampled token. Do not call it for a token that ends the completion."""
        if not self._matcher.consume_token(token):
            raise AssertionError(f"a token was sampled that the schema forbids: {self._matcher.get_error()}")


class GrammarCompiler:
    """Compiles schemas to grammars over the tokens of one model, and remembers the recent ones."""

    def __init__(self, tokenizer: "Tokenizer", *, vocabulary: int, end_ids: frozenset[int]) -> None:
        from llguidance import LLTokenizer

        ends = sorted(end_ids) or [0]
        self._tokenizer = LLTokenizer(tokenizer.to_str(), n_vocab=vocabulary, eos_token=ends)
        self._matcher = lru_cache(maxsize=_COMPILED_SCHEMAS)(self._compile)

    def compile(self, schema: str, *, end_ids: Iterable[int]) -> Grammar:
        """Make the grammar of one completion."""
        return Grammar(self._matcher(schema).deep_copy(), end_ids)

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
