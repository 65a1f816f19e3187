"""What an OpenAI-compatible server understands beyond what they all do, as data.

Sources: OpenAI's API reference (chat completions); the request models of vLLM (``entrypoints/openai``), SGLang 0.5.23
(``entrypoints/openai/protocol.py``) and Ollama (``openai/openai.go``); the README of llama.cpp's server.
"""

from collections.abc import Mapping
from typing import Literal

import httpx2
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from sprint_agents.errors import ConfigurationError

ServerName = Literal["openai", "openai-reasoning", "vllm", "sglang", "llama.cpp", "ollama", "other"]
"""The kinds of servers that the engine knows."""


class Server(BaseModel):
    """One kind of server.

    Attributes:
        limit: the field that bounds the new tokens; a server ignores or refuses the one that it does not know.
        most_stops: how many stop texts it takes; None is without bound. The engine looks for the others itself.
        tells_stop: whether it says which stop text ended a completion.
        top_k_off: the value of ``top_k`` that keeps all tokens; None where the server knows no ``top_k``.
        schemas: which JSON schemas it takes: any, those of OpenAI's strict mode (for others it is asked for JSON of any
            kind), or none.
        schemas_beside_tools: whether it can hold words to a schema in a completion that may call tools instead; other
            servers' schemas hold whatever a model writes, calls too.
        alternates: whether the model's chat template wants user and assistant to take turns, as Mistral's and Gemma's
            do; neighbouring turns of one speaker are then sent as one.
        continues: the fields with which it goes on with a message of the assistant; None where it cannot.
        token_ids: whether ``/completions`` takes token ids and returns them.
        fields: sent with every request; None leaves out a field that would be sent otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    most_stops: int | None = Field(default=4, ge=0)
    tells_stop: bool = False
    top_k_off: int | None = None
    schemas: Literal["any", "strict", "none"] = "strict"
    schemas_beside_tools: bool = False
    alternates: bool = False
    continues: Mapping[str, JsonValue] | None = None
    token_ids: bool = False
    fields: Mapping[str, JsonValue] = {}


# Their defaults for these come from the checkpoint, or are the server's own.
_PLAIN_SAMPLING: dict[str, JsonValue] = {
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}

SERVERS: Mapping[ServerName, Server] = {
    "other": Server(),
    "openai": Server(limit="max_completion_tokens", schemas_beside_tools=True),
    # Reasoning models refuse these two, and all stop texts.
    "openai-reasoning": Server(
        limit="max_completion_tokens",
        most_stops=0,
        schemas_beside_tools=True,
        fields={"temperature": None, "top_p": None},
    ),
    "vllm": Server(
        most_stops=None,
        tells_stop=True,
        top_k_off=-1,
        schemas="any",
        continues={"continue_final_message": True, "add_generation_prompt": False},
        token_ids=True,
        fields=_PLAIN_SAMPLING | {"include_stop_str_in_output": True},
    ),
    "sglang": Server(
        most_stops=None,
        tells_stop=True,
        top_k_off=-1,
        schemas="any",
        continues={"continue_final_message": True},
        token_ids=True,
        fields=_PLAIN_SAMPLING | {"no_stop_trim": True},
    ),
    # Goes on with a last message of the assistant's by itself.
    "llama.cpp": Server(
        most_stops=None,
        top_k_off=0,
        schemas="any",
        continues={},
        fields={"min_p": 0.0, "repeat_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0},
    ),
    "ollama": Server(most_stops=None, schemas="any"),
}
"""The settings for each kind of server."""


def server_of(server: Server | ServerName | None, url: str) -> Server:
    """Return the kind of a server by its name; without one, OpenAI's own is known by its host.

    Raises:
        ConfigurationError: no kind has that name.
    """
    if isinstance(server, Server):
        return server
    if server is None:
        host = httpx2.URL(url).host
        server = "openai" if host == "api.openai.com" or host.endswith(".openai.azure.com") else "other"
    if server not in SERVERS:
        raise ConfigurationError(
            f"no kind of server is called {server!r}: use one of {', '.join(SERVERS)}, or a Server"
        )
    return SERVERS[server]
