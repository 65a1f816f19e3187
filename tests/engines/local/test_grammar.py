"""Completions that are held to a JSON schema."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling, Thoughts
from sprint_agents.engines.local import LocalEngine
from sprint_agents.engines.local.grammar import Grammar, GrammarCompiler
from sprint_agents.errors import InvalidRequest, MissingExtra
from sprint_agents.testing.contract import Completion, complete
from tests.instruct import build_tokenizer

pytestmark = pytest.mark.local
Make = Callable[..., LocalEngine]

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "kind": {"enum": ["cat", "dog"]},
            "lives": {"type": "integer", "minimum": 1, "maximum": 9},
            "names": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
        },
        "required": ["kind", "lives"],
        "additionalProperties": False,
    }
)
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@pytest.fixture(autouse=True)
def grammars() -> None:
    pytest.importorskip("llguidance")


def request(text: str, **changes: Any) -> Request:
    context = Context().extend(list(map(ord, text)), text)
    fields = {"max_tokens": 100, "sampling": Sampling(temperature=5.0), "schema": SCHEMA, "id": text}
    return Request(context=context, **{**fields, **changes})


def answers(make: Make, *requests: Request, **options: int) -> list[Completion]:
    async def main() -> list[Completion]:
        async with make(**options) as engine:
            return await asyncio.gather(*(complete(engine, each) for each in requests))

    return asyncio.run(main())


def held(answer: Completion) -> Any:
    assert answer.text.endswith("<|end|>")
    assert answer.finish.reason == "stop"
    assert answer.finish.matched == 0  # the model's own end, the only thing that was left
    text = answer.text.removesuffix("<|end|>")
    found = json.loads(text)
    assert STRING.sub("s", text) == STRING.sub("s", json.dumps(found))  # a string may have escapes in several forms
    assert found["kind"] in ("cat", "dog")
    assert 1 <= found["lives"] <= 9
    assert list(found) == ["kind", "lives", "names"][: len(found)]
    return found


@pytest.mark.parametrize("temperature", [0, 5.0])
def test_a_random_model_writes_what_the_schema_says(temperature: float, make_engine: Make) -> None:
    (answer,) = answers(make_engine, request("x", sampling=Sampling(temperature=temperature)))
    held(answer)


def test_each_branch_has_a_state_of_its_own(make_engine: Make) -> None:
    """Also one that is put back into the queue, and computed again, in the middle of a word."""
    requests = [request(f"{'shared ' * 8}{number}", id=f"r-{number:02}") for number in range(12)]
    for options in ({}, {"cache_tokens": 220}):
        found = [held(answer) for answer in answers(make_engine, *requests, **options)]
        assert len({json.dumps(each) for each in found}) > 4


def test_beside_others_that_are_not_held(make_engine: Make) -> None:
    free = request("free", schema=None, sampling=Sampling(temperature=0))
    alone = answers(make_engine, free)[0]
    first, second = answers(make_engine, request("held"), free)
    held(first)
    assert second.ids == alone.ids


def test_a_stop_token_ends_what_is_whole_and_nothing_else(make_engine: Make) -> None:
    stop = 2
    for number in range(8):
        (answer,) = answers(make_engine, request(f"x{number}", stop_ids=frozenset({stop})))
        assert answer.ids[-1] in (0, stop)
        json.loads(answer.text.removesuffix("<|end|>").removesuffix("</stop_"))


def test_a_limit_cuts_it_off(make_engine: Make) -> None:
    (answer,) = answers(make_engine, request("x", max_tokens=5))
    assert (answer.finish.reason, len(answer.ids)) == ("length", 5)
    assert answer.text.startswith('{"kin')


def test_it_says_that_it_can(make_engine: Make) -> None:
    engine = make_engine()
    assert engine.capabilities.schemas
    engine.check_schema(SCHEMA, what="a plan")


@pytest.mark.parametrize("schema", ["[", '{"type": "animal"}', '{"type": "object", "properties": {"a": {"type": 3}}}'])
def test_a_schema_that_nobody_can_be_held_to(schema: str, make_engine: Make) -> None:
    with pytest.raises(InvalidRequest, match="cannot hold a model to the schema of the completion: "):
        answers(make_engine, request("x", schema=schema))
    with pytest.raises(InvalidRequest, match="the schema of a plan: "):
        make_engine().check_schema(schema, what="a plan")


def test_without_llguidance(make_engine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(MissingExtra, match=r"needs llguidance.*sprint-agents\[local\]"):
        answers(make_engine, request("x", schema='{"type": "integer"}'))


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    tokenizer = build_tokenizer()
    return GrammarCompiler(tokenizer, vocabulary=tokenizer.get_vocab_size(), end_ids=frozenset({0}))


class TestThoughts:
    """They are free; the schema begins after them."""

    def grammar(self, compiler: GrammarCompiler, thoughts: Thoughts) -> Grammar:
        return compiler.compile('{"type":"object","additionalProperties":false}', end_ids=[0], thoughts=thoughts)

    def allowed(self, grammar: Grammar) -> set[str]:
        tokenizer = build_tokenizer()
        logits = torch.zeros(tokenizer.get_vocab_size())
        grammar.restrict(logits)
        ids = torch.nonzero(logits == 0).flatten().tolist()
        return {tokenizer.decode([token], skip_special_tokens=False) for token in ids}

    def ids(self, text: str) -> list[int]:
        return build_tokenizer().encode(text, add_special_tokens=False).ids

    def test_are_free_until_they_are_closed(self, compiler: GrammarCompiler) -> None:
        grammar = self.grammar(compiler, "open")
        for token in self.ids('because {"a": 1} is wrong</think>'):
            assert len(self.allowed(grammar)) > 200
            grammar.accept(token)
        assert {text.strip() for text in self.allowed(grammar)} <= {"", "{", "{}"}
        for token in self.ids("{}"):
            grammar.accept(token)

    def test_may_be_opened_by_the_model(self, compiler: GrammarCompiler) -> None:
        grammar = self.grammar(compiler, "may")
        assert "<think>" in self.allowed(grammar)
        for token in self.ids("<think>so"):
            grammar.accept(token)
        assert len(self.allowed(grammar)) > 200

    def test_may_be_left_out(self, compiler: GrammarCompiler) -> None:
        grammar = self.grammar(compiler, "may")
        for token in self.ids("{}"):
            assert len(self.allowed(grammar)) < 20
            grammar.accept(token)

    def test_are_not_opened_by_other_models(self, compiler: GrammarCompiler) -> None:
        assert "<think>" not in self.allowed(self.grammar(compiler, "none"))

    def test_are_found_again_in_what_an_earlier_request_wrote(self, compiler: GrammarCompiler) -> None:
        grammar = self.grammar(compiler, "open")
        assert grammar.advance(self.ids("so</think>\n\n{"))
        assert len(self.allowed(grammar)) < 20
        assert not self.grammar(compiler, "open").advance(self.ids("so</think>[1]"))
