"""One attempt at a request: its id at the server, and where its answer is read from."""

import secrets
from dataclasses import dataclass
from typing import cast

from sprint_agents.engine import Request
from sprint_agents.engines.exchange import Exchange
from sprint_agents.engines.remote import RunningRequest

from .batches import Body, Member
from .generate import GenerateReader


@dataclass(slots=True)
class Attempt(RunningRequest):
    """``rid`` is the latest attempt's id at the server; ``broke`` if its stream ended without the server's word.

    ``rank`` is the data-parallel rank that it goes to, if the engine chose one. ``exchange`` is what it is read from.
    """

    rid: str = ""
    broke: bool = False
    rank: int | None = None
    exchange: Exchange | Member | None = None

    def begin(self, request: Request, body: Body) -> Body:
        """Give the next attempt an id, and return its body with that."""
        self.rid, self.broke = server_id(request.id), False
        return {"rid": self.rid, **body}


def reader_of(body: Body) -> GenerateReader:
    """Return what reads the answer to a request with this body."""
    return GenerateReader(len(cast("list[int]", body["input_ids"])), logprobs="return_logprob" in body)


def server_id(request_id: str) -> str:
    """Return an id for a request at the server: never the same twice, and never a prefix of another."""
    return f"{len(request_id)}:{request_id}:{secrets.token_hex(4)}"
