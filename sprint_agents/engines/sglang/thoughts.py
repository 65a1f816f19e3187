"""Thoughts before a JSON schema: SGLang holds a whole completion to it, so the thoughts are a separate request.

The server has a reasoning parser for that, but only if it was started with one. Two requests work on every server: the
second continues the first, whose tokens are cached, and has the schema.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from sprint_agents.engine import THOUGHTS, Chunk, Request

Complete = Callable[[Request], AsyncGenerator[Chunk]]


def thinks_first(request: Request) -> bool:
    """Say whether a completion may begin with thoughts that its schema does not allow."""
    return request.schema is not None and request.thoughts != "none" and request.max_tokens > 0 and not request.written


async def complete_after_thoughts(request: Request, complete: Complete) -> AsyncGenerator[Chunk]:
    """Stream thoughts without the schema of ``request``, and the rest with it.

    If the model does not open any, its first tokens are discarded, and the completion begins again with the schema.

    Raises:
        EngineError: what any of the requests raises.
    """
    free = replace(request, schema=None, whole=False, stop_texts=(*request.stop_texts, THOUGHTS[1]))
    context, tokens, held = request.context, 0, list[Chunk]()
    thinking = request.thoughts == "open"
    async with aclosing(complete(free)) as chunks:
        async for chunk in chunks:
            held.append(chunk)
            context = context.extend(chunk.ids, chunk.text)
            tokens += len(chunk.ids)
            begun = "".join(each.text for each in held).lstrip() if not thinking else ""
            if not thinking and begun and not THOUGHTS[0].startswith(begun[: len(THOUGHTS[0])]):
                context, tokens = request.context, 0
                break
            thinking = thinking or begun.startswith(THOUGHTS[0])
            finish = chunk.finish
            closed = finish is not None and finish.matched == THOUGHTS[1]
            if finish is not None and (not closed or tokens >= request.max_tokens):
                for each in held:
                    yield each
                return
            if thinking:
                for each in held:
                    yield replace(each, finish=None)
                held.clear()
    async with aclosing(complete(replace(request, context=context, max_tokens=request.max_tokens - tokens))) as chunks:
        async for chunk in chunks:
            yield chunk
