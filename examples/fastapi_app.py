"""Serve runs over HTTP: one endpoint returns the finished run, another streams its events as lines of JSON.

When a client disconnects, its run ends and its requests to the engine are aborted. Needs ``pip install
'sprint-agents[local]' fastapi uvicorn``; another port is the argument.

    python examples/fastapi_app.py
    curl -N -d '{"task": "countdown 4 9 24 37"}' -H 'Content-Type: application/json' http://127.0.0.1:8080/stream
"""

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from sprint_agents import Budget, Engine, Run, Sprint, SprintError
from sprint_agents.engines import LocalEngine
from sprint_agents.errors import ConfigurationError
from sprint_agents.nano import nano_path


class Question(BaseModel):
    """The body of a request."""

    task: str


def main(engine: Engine | None = None) -> FastAPI:
    """Make the application; it closes its engine on shutdown."""
    model = engine or LocalEngine(nano_path())
    sprint = Sprint(model, budget=Budget(seconds=60))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        yield
        await model.aclose()

    async def solve(question: Question) -> Run:
        try:
            return await sprint.run(question.task)
        except ConfigurationError as error:
            raise HTTPException(422, str(error)) from error
        except SprintError as error:
            raise HTTPException(502, str(error)) from error

    async def events(question: Question) -> AsyncGenerator[str]:
        async with sprint.stream(question.task) as stream:
            try:
                async for event in stream:
                    yield event.model_dump_json() + "\n"
            except SprintError as error:
                yield json.dumps({"error": str(error)}) + "\n"

    async def stream(question: Question) -> StreamingResponse:
        return StreamingResponse(events(question), media_type="application/x-ndjson")

    app = FastAPI(lifespan=lifespan)
    app.post("/solve")(solve)
    app.post("/stream")(stream)
    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(main(), port=int(sys.argv[1]) if sys.argv[1:] else 8080)
