"""llama.cpp's slots: a prefix is computed in one and copied to the idle ones, where the server can copy."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import structlog

from sprint_agents.context import Context
from sprint_agents.engine import Finish
from sprint_agents.engines.openai import OpenAIEngine
from sprint_agents.errors import EngineUnavailable
from sprint_agents.testing.contract import complete, request_of

PROMPT = "<|im_start|>user\nHi<|im_end|>\n"


@dataclass
class LlamaCpp:
    """Answers as llama.cpp does; ``answers`` replaces some answers, by path."""

    busy: tuple[int, ...] = ()
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    waits_at: str = ""
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode()
        self.asked.append((path, json.loads(request.content or b"null")))
        if path == self.waits_at:
            self.waiting.set()
            await asyncio.Event().wait()
        known = {
            "/apply-template": {"prompt": PROMPT},
            "/completion": {"id_slot": 2, "content": "", "timings": {"prompt_n": 90, "cache_n": 10}},
            "/slots": [{"id": number, "is_processing": number in self.busy} for number in range(4)],
        }
        status, answer = self.answers.get(path, (200, known.get(path, {})))
        return httpx2.Response(status, json=answer)

    def engine(self) -> OpenAIEngine:
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return OpenAIEngine("http://127.0.0.1:8080/v1", model="tiny", server="llama.cpp", client=client)


async def commit(engine: OpenAIEngine) -> Finish:
    return (await complete(engine, request_of(Context().extend(await engine.encode("Hi"), "Hi"), max_tokens=0))).finish


def test_a_prefix_is_copied_to_the_idle_slots() -> None:
    server = LlamaCpp(busy=(0,))

    async def main() -> None:
        async with server.engine() as engine:
            assert not engine.capabilities.caches_running
            assert await commit(engine) == Finish("length", None, 100, 10, 0)

    asyncio.run(main())
    assert server.asked[0] == ("/apply-template", {"messages": [{"role": "user", "content": "Hi"}]})
    assert server.asked[1] == ("/completion", {"prompt": PROMPT, "n_predict": 0, "cache_prompt": True})
    save, slots, *restored = server.asked[2:]
    assert (save[0], slots[0]) == ("/slots/2?action=save", "/slots")
    assert sorted(restored) == [(f"/slots/{number}?action=restore", save[1]) for number in (1, 3)]


def test_commits_at_the_same_time_use_files_of_their_own() -> None:
    server = LlamaCpp()

    async def main() -> None:
        async with server.engine() as engine:
            await asyncio.gather(*(commit(engine) for _ in range(3)))

    asyncio.run(main())
    assert len({body["filename"] for path, body in server.asked if path.endswith("save")}) == 3


@pytest.mark.parametrize(
    ("path", "status", "answer"),
    [
        ("/slots/2?action=save", 501, {"error": {"code": 501, "message": "Start it with `--slot-save-path`"}}),
        ("/slots", 501, {"error": {"code": 501, "message": "Start it without `--no-slots`"}}),
        ("/apply-template", 404, {"error": {"code": 404, "message": "File Not Found"}}),
        ("/completion", 200, {"choices": []}),
    ],
)
def test_a_server_that_cannot_copy_is_asked_once_and_said_once(path: str, status: int, answer: Any) -> None:
    server = LlamaCpp(answers={path: (status, answer)})

    async def main() -> None:
        async with server.engine() as engine:
            for _ in range(2):
                assert (await commit(engine)).prompt_tokens == 1
            assert [asked for asked, _ in server.asked].count("/apply-template") == 1

    with structlog.testing.capture_logs() as logs:
        asyncio.run(main())
    (log,) = logs
    assert "each branch computes the shared prefix again" in log["note"]
    if status == 501:
        assert answer["error"]["message"] in log["note"]


@pytest.mark.parametrize("path", ["/completion", "/slots/1?action=restore"])
def test_a_failure_that_may_pass_leaves_the_prefix_to_the_branches(path: str) -> None:
    server = LlamaCpp(answers={path: (503, {"error": {"message": "busy"}})})

    async def main() -> None:
        async with server.engine() as engine:
            for _ in range(2):
                await commit(engine)
            assert [asked for asked, _ in server.asked].count("/apply-template") == 2

    asyncio.run(main())


def test_a_commit_can_be_aborted() -> None:
    server = LlamaCpp(waits_at="/completion")

    async def main() -> None:
        async with server.engine() as engine:
            context = Context().extend(await engine.encode("Hi"), "Hi")
            request = request_of(context, max_tokens=0, request_id="commit-")
            committing = asyncio.create_task(complete(engine, request))
            await server.waiting.wait()
            await engine.abort("commit-")
            with pytest.raises(EngineUnavailable, match="aborted"):
                await committing

    asyncio.run(main())
