"""Questions to a server about its models, since some servers ignore what they cannot do.

llama.cpp and SGLang answer under any name of a model, with the one that they run. llama.cpp also drops the tools of a
request if the model's chat template has no place for them.

Sources: OpenAI's API reference (``GET /models``); the README of llama.cpp's server (``GET /props``).
"""

import asyncio
import re
from collections.abc import Sequence

from pydantic import BaseModel, Field, ValidationError

from sprint_agents.engines.http import HttpClient
from sprint_agents.errors import ConfigurationError, EngineError, EngineRejected

ANY_MODEL = "default"
"""The name for whatever model a server runs, where the server ignores names."""
_PATIENCE = 5.0
"""Seconds for an answer; a server that does not say has no say."""
_MOST_NAMES = 8
_NO_MODEL = re.compile(
    r"\bmodels?\b.{0,200}?\b(?:not found|not exist|not available|unknown)\b|unknown model|no such model",
    re.IGNORECASE | re.DOTALL,
)


class _Model(BaseModel):
    id: str
    aliases: list[str] = []


class _Models(BaseModel):
    data: list[_Model]


class _TemplateAbilities(BaseModel):
    supports_tools: bool = True
    supports_tool_calls: bool = True


class _Properties(BaseModel):
    chat_template_caps: _TemplateAbilities = Field(default_factory=_TemplateAbilities)


async def check_model(http: HttpClient, name: str) -> None:
    """Raise if the server runs another model; nothing is known of a server that does not list its models.

    Raises:
        EngineRejected: it does; the message has the names that it knows.
    """
    if name == ANY_MODEL or not (models := await _models(http)):
        return
    known = {each for model in models for each in (model.id, *model.aliases)}
    if known.isdisjoint((name, name.partition(":")[0])):  # SGLang's "model:adapter"
        raise EngineRejected(
            http.mask(
                f"{http.url} has no model {name!r}, and would answer with another one: {_instead(models)}, or "
                f"model={ANY_MODEL!r} for whatever it runs"
            )
        )


async def check_tools(http: HttpClient, name: str) -> None:
    """Raise if llama.cpp would drop a request's tools; the URL of ``http`` has no ``/v1``.

    Raises:
        ConfigurationError: it would.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            abilities = _Properties.model_validate(await http.get("/props")).chat_template_caps
    except (EngineError, ValidationError, TimeoutError):
        return
    if not (abilities.supports_tools or abilities.supports_tool_calls):
        raise ConfigurationError(
            f"the chat template of {name} has no place for tools, so {http.url} would drop them: have the model write "
            "its calls with tools='written', or start the server with a --chat-template-file that has tools"
        )


async def with_names(error: EngineRejected, http: HttpClient) -> EngineRejected:
    """Add the names of the server's models to a refusal of one; return any other error itself."""
    if type(error) is not EngineRejected or not _NO_MODEL.search(str(error)) or not (models := await _models(http)):
        return error
    return EngineRejected(http.mask(f"{error}: {_instead(models)}"))


async def _models(http: HttpClient) -> Sequence[_Model]:
    try:
        async with asyncio.timeout(_PATIENCE):
            return _Models.model_validate(await http.get("/models")).data
    except (EngineError, ValidationError, TimeoutError):
        return ()


def _instead(models: Sequence[_Model]) -> str:
    names = ", ".join(repr(model.id) for model in models[:_MOST_NAMES])
    return f"use model={names}" + (f" or another of its {len(models)} models" if len(models) > _MOST_NAMES else "")
