"""A wrong model, and tools without a place in the chat template: servers ignore both, and the engine does not."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from sprint_agents.context import Context
from sprint_agents.engine import ToolBrief
from sprint_agents.engines import OpenAIEngine
from sprint_agents.errors import ConfigurationError, EngineRejected
from sprint_agents.testing.contract import complete, request_of

from .scripted import chunk

LISTED = {"object": "list", "data": [{"id": "tiny", "aliases": ["small"]}, {"id": "tiny-lora"}]}
NO_TOOLS = {"chat_template_caps": {"supports_tools": False, "supports_tool_calls": False}}
SOME_TOOLS = {"chat_template_caps": {"supports_tools": True, "supports_tool_calls": False}}


@dataclass
class Server:
    """Says "Hi", lists its models, and refuses a request with ``refusal`` if there is one."""

    models: Any = field(default_factory=lambda: LISTED)
    properties: Any = None
    refusal: str = ""
    paths: list[str] = field(default_factory=list)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.paths.append(request.url.path)
        if request.url.path == "/v1/models" and self.models is not None:
            return httpx2.Response(200, json=self.models)
        if request.url.path == "/props" and self.properties is not None:
            return httpx2.Response(200, json=self.properties)
        if request.method == "GET":
            return httpx2.Response(404, json={"error": "no such path"})
        if self.refusal:
            return httpx2.Response(404, json={"error": {"message": self.refusal}})
        said = f"data: {chunk('Hi', finish='stop')}\n\ndata: [DONE]\n\n"
        return httpx2.Response(200, content=said, headers={"content-type": "text/event-stream"})

    def ask(self, model: str, *, times: int = 1, offer: bool = False, **options: Any) -> str:
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        tools = (ToolBrief("add", "Add numbers.", json.dumps({"type": "object"})),) if offer else ()

        async def main() -> str:
            async with OpenAIEngine("http://127.0.0.1:8080/v1", model=model, client=client, **options) as engine:
                context = Context().extend(await engine.encode("Hi"), "Hi")
                for number in range(times):
                    request = request_of(context, request_id=f"{number}-")
                    request.tools, request.may_call = tools, offer
                    written = await complete(engine, request)
                return written.text

        return asyncio.run(main())


@pytest.mark.parametrize("kind", ["llama.cpp", "sglang"])
@pytest.mark.parametrize("model", ["tiny", "small", "tiny:adapter", "default"])
def test_a_model_that_the_server_runs(kind: str, model: str) -> None:
    server = Server()
    assert server.ask(model, server=kind, times=2) == "Hi"
    assert server.paths.count("/v1/models") == (model != "default")


@pytest.mark.parametrize("kind", ["llama.cpp", "sglang"])
def test_a_server_that_would_answer_with_another_model(kind: str) -> None:
    server = Server()
    with pytest.raises(EngineRejected, match=r"no model 'large'.*use model='tiny', 'tiny-lora', or model='default'"):
        server.ask("large", server=kind)
    assert server.paths == ["/v1/models"]


@pytest.mark.parametrize("models", [None, {"models": []}, {"data": []}, []])
def test_a_server_that_does_not_list_its_models(models: Any) -> None:
    assert Server(models=models).ask("large", server="llama.cpp") == "Hi"


@pytest.mark.parametrize(
    "refusal",
    [
        "The model `large` does not exist.",  # vLLM
        'model "large" not found, try pulling it first',  # Ollama
        "The model `large` does not exist or you do not have access to it.",  # OpenAI
        "Model not found: large",
    ],
)
def test_a_refusal_names_the_models_that_there_are(refusal: str) -> None:
    with pytest.raises(EngineRejected, match=r"use model='tiny', 'tiny-lora'$") as raised:
        Server(refusal=refusal).ask("large")
    assert str(raised.value).startswith(refusal)
    with pytest.raises(EngineRejected) as raised:
        Server(models=None, refusal=refusal).ask("large")
    assert str(raised.value) == refusal


def test_of_many_models_some_are_named() -> None:
    many = {"data": [{"id": f"model-{number}"} for number in range(100)]}
    with pytest.raises(EngineRejected, match=r"model='model-0'.*'model-7' or another of its 100 models$"):
        Server(models=many, refusal="The model `large` does not exist.").ask("large")


def test_other_refusals_are_unchanged() -> None:
    server = Server(refusal="temperature must be less than 2")
    with pytest.raises(EngineRejected, match=r"^temperature must be less than 2$"):
        server.ask("tiny")
    assert "/v1/models" not in server.paths


def test_llama_cpp_would_drop_the_tools() -> None:
    with pytest.raises(ConfigurationError, match=r"chat template of tiny has no place for tools.*tools='written'"):
        Server(properties=NO_TOOLS).ask("tiny", server="llama.cpp", tools="native", offer=True)


@pytest.mark.parametrize("properties", [SOME_TOOLS, {}, [], None])
def test_llama_cpp_that_has_tools_or_does_not_say(properties: Any) -> None:
    assert Server(properties=properties).ask("tiny", server="llama.cpp", tools="native", offer=True) == "Hi"


def test_written_calls_need_no_template() -> None:
    server = Server(properties=NO_TOOLS)
    assert server.ask("tiny", server="llama.cpp") == "Hi"
    assert "/props" not in server.paths
