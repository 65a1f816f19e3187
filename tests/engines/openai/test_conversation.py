import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling, Speaker
from sprint_agents.engines.openai import OpenAIEngine, Server
from sprint_agents.engines.openai.conversation import conversation_of
from sprint_agents.errors import ConfigurationError, InvalidRequest
from sprint_agents.markup import markup

from .scripted import ScriptedServer, says

TURNS = OpenAIEngine("http://127.0.0.1:1/v1", model="tiny").capabilities.chat
SYSTEM, USER, ASSISTANT = TURNS.open("system"), TURNS.open("user"), TURNS.open("assistant")
END = TURNS.close("user")

SPEAKERS: Sequence[Speaker] = ("system", "user", "assistant")
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=SYSTEM + USER + ASSISTANT + END))


def asked(text: str, **options: Any) -> dict[str, Any]:
    """Return the body of the request that completes ``text``."""

    async def main() -> dict[str, Any]:
        async with (
            ScriptedServer([says("4")]) as server,
            OpenAIEngine(server.base, **{"model": "tiny", **options}) as engine,
        ):
            context = Context().extend(await engine.encode(markup(text)), text)
            request = Request(id="r-1", context=context, max_tokens=9, sampling=Sampling())
            assert [chunk async for chunk in engine.complete(request)][-1].finish is not None
            (body,) = server.sent
            return body

    return asyncio.run(main())


def messages(text: str, **options: Any) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in asked(text, **options)["messages"]]


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_text_comes_back_from_its_ids(text: str) -> None:
    async def main() -> None:
        engine = OpenAIEngine("http://127.0.0.1:1/v1", model="tiny")
        assert await engine.decode(await engine.encode(text)) == text

    asyncio.run(main())


@given(st.lists(st.tuples(st.sampled_from(SPEAKERS), texts), max_size=5), texts)
def test_every_turn_is_a_message_to_the_letter(said: list[tuple[Speaker, str]], question: str) -> None:
    whole = "".join(f"{TURNS.open(speaker)}{text}{TURNS.close(speaker)}" for speaker, text in said)
    found = conversation_of(f"{whole}{USER}{question}{END}{ASSISTANT}")
    assert not found.open
    assert [(message["role"], message["content"]) for message in found.messages] == [*said, ("user", question)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no turns at all\n", [("user", "no turns at all\n")]),
        (f"before {SYSTEM}be brief{END}{USER}how many?{END}{ASSISTANT}",
         [("user", "before "), ("system", "be brief"), ("user", "how many?")]),
        (f"{USER}one{END}\n\n{USER}two", [("user", "one"), ("user", "two")]),
        (f"{USER}one{END} stray {USER}two", [("user", "one"), ("user", " stray "), ("user", "two")]),
        (f"{USER}one{ASSISTANT}two{USER}three{END}", [("user", "one"), ("assistant", "two"), ("user", "three")]),
        (f"{USER}one{END}{ASSISTANT}{END}{USER}", [("user", "one"), ("assistant", "")]),
    ],
)  # fmt: skip
def test_what_is_sent(text: str, expected: list[tuple[str, str]]) -> None:
    assert messages(text) == expected


def test_neighbours_are_one_message_where_speakers_must_take_turns() -> None:
    text = f"{SYSTEM}be brief{END}{USER}task{END}{USER}plan{END}{ASSISTANT}1{END}{USER}go on{END}{ASSISTANT}"
    expected = [("system", "be brief"), ("user", "task\n\nplan"), ("assistant", "1"), ("user", "go on")]
    assert messages(text, server=Server(alternates=True)) == expected


def test_no_mark_is_ever_sent() -> None:
    body = asked(f"{SYSTEM}a{END}b{USER}{USER}c{END}{END}{ASSISTANT}")
    assert not {SYSTEM, USER, ASSISTANT, END} & set(str(body))


class TestAnOpenTurnOfTheAssistant:
    text = f"{USER}count{END}{ASSISTANT}1 2 "

    @pytest.mark.parametrize(
        ("server", "fields"),
        [
            ("vllm", {"continue_final_message": True, "add_generation_prompt": False}),
            ("sglang", {"continue_final_message": True}),
            ("llama.cpp", {}),
        ],
    )
    def test_is_gone_on_with(self, server: str, fields: dict[str, bool]) -> None:
        body = asked(self.text, server=server)
        assert body["messages"][-1] == {"role": "assistant", "content": "1 2 "}
        asked_elsewhere = asked(f"{USER}count{END}{ASSISTANT}", server=server)
        assert {name: body[name] for name in body.keys() - asked_elsewhere.keys()} == fields

    @pytest.mark.parametrize("server", [None, "openai", "ollama"])
    def test_is_refused_where_the_server_cannot(self, server: str | None) -> None:
        with pytest.raises(ConfigurationError, match=r"inside a turn of the assistant.*server='vllm'"):
            asked(self.text, server=server)


@pytest.mark.parametrize("text", [ASSISTANT, f"{ASSISTANT}hello{END}", f"\n{END} ", SYSTEM])
def test_somebody_must_have_asked(text: str) -> None:
    with pytest.raises(InvalidRequest, match="no turn of a user"):
        asked(text)


@pytest.mark.parametrize("wrong", [-1, 0x110000, 0xD800, 2**40])
def test_ids_that_are_no_characters(wrong: int) -> None:
    engine = OpenAIEngine("http://127.0.0.1:1/v1", model="tiny")

    async def stopped_by(stop: int) -> None:
        context = Context().extend([97], "a")
        request = Request(id="r-1", context=context, max_tokens=9, sampling=Sampling(), stop_ids=frozenset({stop}))
        await anext(engine.complete(request))

    for asked in (engine.decode([97, wrong]), stopped_by(wrong)):
        with pytest.raises(InvalidRequest, match=f"id {wrong} is not a character"):
            asyncio.run(asked)
