"""Completions that satisfy a JSON schema: which tokens may come next, by llguidance.

JSON is written as ``json.dumps`` would, with one blank behind commas and colons and no other, and properties stand in
the schema's order. A model that has written a whole value can only end.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from sprint_agents.errors import InvalidRequest, MissingExtra

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from tokenizers import Tokenizer
    from torch import Tensor

_REMEMBERED = 64


class Grammar:
    """What one completion may go on with; ``end_ids`` end it, once it is whole."""

    __slots__ = ("_end_ids", "_matcher")

    def __init__(self, matcher: "LLMatcher", end_ids: Iterable[int]) -> None:
        self._matcher = matcher
        self._end_ids = list(end_ids)

    def restrict(self, logits: "Tensor") -> None:
        """Make impossible, in ``logits`` ``[vocabulary]``, what the schema does not allow."""
        import torch

        # A byte for each token, 0 for those that are not allowed.
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8).bool()
        if len(allowed) < len(logits):
            allowed = torch.nn.functional.pad(allowed, (0, len(logits) - len(allowed)))
        allowed = allowed[: len(logits)].clone()
        if self._matcher.is_accepting():
            allowed[self._end_ids] = True
        logits.masked_fill_(~allowed.to(logits.device), float("-inf"))

    def accept(self, token: int) -> None:
        """Take the token that was drawn; not one that ends the completion."""
        if not self._matcher.consume_token(token):
            raise AssertionError(f"a token was drawn that the schema forbids: {self._matcher.get_error()}")


class Grammars:
    """Makes grammars for the tokens of one model; a schema that comes again is not read again."""

    def __init__(self, tokenizer: "Tokenizer", *, vocabulary: int, end_ids: frozenset[int]) -> None:
        from llguidance import LLTokenizer

        ends = sorted(end_ids) or [0]
        self._tokenizer = LLTokenizer(tokenizer.to_str(), n_vocab=vocabulary, eos_token=ends)
        self._compiled = lru_cache(maxsize=_REMEMBERED)(self._compile)

    def of(self, schema: str, *, end_ids: Iterable[int]) -> Grammar:
        """Make the grammar of a completion."""
        return Grammar(self._compiled(schema).deep_copy(), end_ids)

    def _compile(self, schema: str) -> "LLMatcher":
        from llguidance import LLMatcher

        return LLMatcher(self._tokenizer, _rules(schema))


@lru_cache(maxsize=_REMEMBERED)
def check_schema(schema: str, *, what: str = "the completion") -> None:
    """See that a model can be held to a schema, which ``what`` has.

    Raises:
        InvalidRequest: it is none, or llguidance cannot hold a model to it.
        MissingExtra: llguidance is not installed.
    """
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise MissingExtra("local", "llguidance") from error
    try:
        error = LLMatcher.validate_grammar(_rules(schema))
    except ValueError as wrong:
        error = str(wrong)
    if error and not error.startswith("WARNING"):
        raise InvalidRequest(
            f"this engine cannot hold a model to the schema of {what}: {error.splitlines()[0]}. Declare the type with "
            "pydantic models, dataclasses and plain types such as int or list[str]"
        )


def _rules(schema: str) -> str:
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(
        schema, overrides={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    )
