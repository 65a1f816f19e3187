"""A prefix that is computed once for all slots of a llama.cpp server.

Such a server has some slots, each with one context, and shares nothing between them: 16 siblings on 16 slots compute
their prefix 16 times. But it can save a slot to a file and restore it into others, if it was started with
``--slot-save-path``. So the prefix is computed in one slot and copied to every idle one, which takes milliseconds. The
server gives each sibling the idle slot whose context is most like its own.

Source: the README of llama.cpp's server (``/slots/{id}?action=save``, ``/apply-template``, ``/completion``).
"""

import asyncio
from contextlib import suppress
from itertools import cycle
from typing import TypeVar
from uuid import uuid4

from pydantic import BaseModel, TypeAdapter, ValidationError

from sprint_agents.engine import Finish
from sprint_agents.engines.http import HttpClient
from sprint_agents.errors import EngineError, EngineProtocolError, EngineRejected

from .server import Body

T = TypeVar("T")

_RENDERED = ("messages", "tools", "tool_choice", "chat_template_kwargs")
"""The fields of a chat request that decide its prompt."""
_FILES = 4
"""A commit must not overwrite the file that another one is still copying; more at once only cost some efficiency."""
_PATIENCE = 5.0
"""Seconds for a copy. The server keeps one waiting whose slot is in use again."""


class _Prompt(BaseModel):
    prompt: str


class _Timings(BaseModel):
    prompt_n: int
    cache_n: int = 0


class _Computed(BaseModel):
    id_slot: int
    timings: _Timings


class _Slot(BaseModel):
    id: int
    is_processing: bool


class Slots:
    """The slots of the server at ``http``, whose URL has no ``/v1``.

    ``why_not`` says why prefixes cannot be copied there, once a first try has shown it; until then it is empty.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._files = cycle([f"sprint-{uuid4().hex[:8]}-{number}.bin" for number in range(_FILES)])
        self.why_not = ""

    async def commit(self, body: Body) -> Finish | None:
        """Compute the prompt of a chat request in one slot, copy it to all idle ones, and return the cost.

        Without copies, nothing is computed in advance, and the result is None. Other failures are the branches' own:
        their requests compute the prefix.
        """
        if self.why_not:
            return None
        try:
            rendered = {name: body[name] for name in _RENDERED if name in body}
            prompt = _read(_Prompt, await self._http.post("/apply-template", rendered)).prompt
            request = {"prompt": prompt, "n_predict": 0, "cache_prompt": True}
            computed = _read(_Computed, await self._http.post("/completion", request))
            await self._copy(computed.id_slot)
        except (EngineRejected, EngineProtocolError) as error:
            self.why_not = str(error)
            return None
        except EngineError:
            return None
        cached = computed.timings.cache_n
        return Finish("length", None, cached + computed.timings.prompt_n, cached, 0)

    async def _copy(self, source: int) -> None:
        file = {"filename": next(self._files)}
        await self._http.post(f"/slots/{source}?action=save", file)
        slots = _read(list[_Slot], await self._http.get("/slots"))
        idle = [slot.id for slot in slots if not slot.is_processing and slot.id != source]
        with suppress(TimeoutError, ExceptionGroup):
            async with asyncio.timeout(_PATIENCE), asyncio.TaskGroup() as copies:
                for slot in idle:
                    copies.create_task(self._http.post(f"/slots/{slot}?action=restore", file))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _read(kind: type[T], answer: object) -> T:
    try:
        return TypeAdapter(kind).validate_python(answer)
    except ValidationError as error:
        raise EngineProtocolError("the answer is not llama.cpp's: is this another kind of server?") from error
