"""The chat template that a server uses, which may be none of its checkpoint's: asked for by a few conversations.

``/tokenize`` takes messages since SGLang 0.5.23, and renders them as they are where ``add_generation_prompt`` is given.
"""

import asyncio
from collections.abc import Mapping

from pydantic import JsonValue

from sprint_agents.dialects.conversation import PROBES, Probe
from sprint_agents.engines.http import Http
from sprint_agents.errors import EngineError

from .tokenizer import ServerTokenizer

Renderings = Mapping[Probe, str | None]


async def renderings(http: Http, tokenizer: ServerTokenizer, variables: Mapping[str, JsonValue]) -> Renderings | None:
    """Return what the server's chat template makes of ``PROBES``; None where it has no template, or cannot say."""

    async def rendered(probe: Probe) -> str | None:
        body: dict[str, object] = {"messages": probe.messages, "add_generation_prompt": probe.prompts}
        if variables:
            body["chat_template_kwargs"] = dict(variables)
        try:
            return await tokenizer.decode(await tokenizer.encode_by(body))
        except EngineError:  # templates refuse what they have no words for; where there is none, that is an error too
            return None

    if http.closed or (first := await rendered(PROBES[0])) is None:
        return None
    others = await asyncio.gather(*(rendered(probe) for probe in PROBES[1:]))
    return dict(zip(PROBES, [first, *others], strict=True))
