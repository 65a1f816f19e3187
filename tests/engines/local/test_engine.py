import asyncio
import json
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Sampling
from sprint_agents.engines.local import LocalEngine, LocalStatistics
from sprint_agents.errors import ContextOverflow, EngineUnavailable, InvalidRequest
from sprint_agents.nano import nano_path
from sprint_agents.state import State
from sprint_agents.testing.contract import Completion, complete, request_of

from .conftest import CONTEXT, VOCABULARY

pytestmark = pytest.mark.local

MODELS = ["llama", "qwen2", "qwen3", "mistral"]
Make = Callable[..., LocalEngine]
Generate = Callable[..., list[int]]


def context_of(*ids: int) -> Context:
    return Context().extend(ids, "")


def some_ids(count: int, *, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(4, VOCABULARY), k=count)


def check_at_rest(statistics: LocalStatistics) -> None:
    assert statistics.running == statistics.waiting == statistics.pinned_tokens == 0
    assert statistics.started == statistics.finished + statistics.aborted + statistics.failed
    assert statistics.stored_tokens == statistics.cached_tokens


@pytest.mark.parametrize("model", MODELS)
def test_greedy_tokens_are_those_of_generate(model: str, checkpoints, make_engine: Make, generate: Generate) -> None:
    async def main() -> None:
        async with make_engine(checkpoints[model], prefill_chunk=32) as engine:
            prompts = [some_ids(length, seed=length) for length in (1, 2, 31, 100, 33)]
            answers = await asyncio.gather(
                *(complete(engine, request_of(context_of(*ids), max_tokens=40)) for ids in prompts)
            )
            for ids, answer in zip(prompts, answers, strict=True):
                assert answer.ids == generate(ids, 40, model=model)
            check_at_rest(engine.statistics())

    asyncio.run(main())


def test_a_reader_that_is_cancelled_twice_waits_for_the_end_of_its_request(checkpoints, make_engine: Make) -> None:
    async def main() -> None:
        async with make_engine(checkpoints["llama"]) as engine:
            begun = asyncio.Event()

            async def read() -> None:
                async for _ in engine.complete(request_of(context_of(*some_ids(9)), max_tokens=200)):
                    begun.set()

            readers = [asyncio.create_task(read()) for _ in range(8)]
            await begun.wait()
            for _ in range(3):
                for reader in readers:
                    reader.cancel()
                await asyncio.sleep(0)
            await asyncio.wait(readers)
            check_at_rest(engine.statistics())
            assert all(reader.cancelled() for reader in readers)

    asyncio.run(main())


@pytest.mark.parametrize("model", MODELS)
def test_forks_of_a_cold_prefix_compute_it_once(model: str, checkpoints, make_engine: Make, generate: Generate) -> None:
    async def main() -> None:
        async with make_engine(checkpoints[model], prefill_chunk=50) as engine:
            prefix = some_ids(120)
            forks = [[*prefix, first, *some_ids(first % 5, seed=first)] for first in range(10, 30)]
            answers = await asyncio.gather(
                *(complete(engine, request_of(context_of(*ids), max_tokens=12)) for ids in forks)
            )
            for ids, answer in zip(forks, answers, strict=True):
                assert answer.ids == generate(ids, 12, model=model)
            assert [answer.finish.cached_tokens for answer in answers] == [0] + [120] * 19
            statistics = engine.statistics()
            own = sum(len(ids) - 120 for ids in forks)
            assert statistics.prompt_tokens - statistics.reused_tokens == 120 + own
            check_at_rest(statistics)

    asyncio.run(main())


@pytest.mark.parametrize("prefill_chunk", [1, 7, 64, 1000])
def test_the_size_of_a_chunk_changes_nothing(prefill_chunk: int, make_engine: Make, generate: Generate) -> None:
    async def main() -> None:
        async with make_engine(prefill_chunk=prefill_chunk) as engine:
            prompts = [some_ids(90), some_ids(45) + some_ids(50, seed=1), some_ids(10, seed=2)]
            answers = await asyncio.gather(
                *(complete(engine, request_of(context_of(*ids), max_tokens=10)) for ids in prompts)
            )
            assert [answer.ids for answer in answers] == [generate(ids, 10) for ids in prompts]

    asyncio.run(main())


def test_a_repeated_prompt_is_read_from_the_cache_but_for_its_last_token(make_engine: Make) -> None:
    async def main() -> None:
        async with make_engine() as engine:
            context = context_of(*some_ids(50))
            first = await complete(engine, request_of(context))
            again = await asyncio.gather(*(complete(engine, request_of(context)) for _ in range(3)))
            assert first.finish.cached_tokens == 0
            assert [answer.finish.cached_tokens for answer in again] == [49] * 3
            assert [answer.ids for answer in again] == [first.ids] * 3

    asyncio.run(main())


def test_generated_tokens_are_cached_too(make_engine: Make, generate: Generate) -> None:
    async def main() -> None:
        async with make_engine() as engine:
            ids = some_ids(40)
            first = await complete(engine, request_of(context_of(*ids), max_tokens=30))
            longer = [*ids, *first.ids, *some_ids(5, seed=1)]
            second = await complete(engine, request_of(context_of(*longer)))
            # All but the last generated token, whose keys nothing had needed yet.
            assert second.finish.cached_tokens == 40 + 29
            assert second.ids == generate(longer, 8)

    asyncio.run(main())


def test_a_conversation_of_short_turns_is_computed_once(make_engine: Make, generate: Generate) -> None:
    async def main() -> None:
        async with make_engine(prefill_chunk=8) as engine:
            ids: list[int] = []
            for turn in range(8):
                known = max(0, len(ids) - 1)  # the last generated token is not computed yet
                ids += some_ids(1 + turn % 4 * 5, seed=turn)
                # Beside each turn another branch goes on from the middle of the conversation.
                beside = [*ids[: len(ids) // 2], 7]
                answer, other = await asyncio.gather(
                    complete(engine, request_of(context_of(*ids), max_tokens=15)),
                    complete(engine, request_of(context_of(*beside), max_tokens=15)),
                )
                assert answer.finish.cached_tokens == known
                assert (answer.ids, other.ids) == (generate(ids, 15), generate(beside, 15))
                ids += answer.ids
                check_at_rest(engine.statistics())

    asyncio.run(main())


def test_forks_share_what_is_still_being_decoded(make_engine: Make, generate: Generate) -> None:
    async def main() -> None:
        async with make_engine(cache_tokens=4096, max_running=100) as engine:  # tails of 20 tokens
            ids = some_ids(40)
            written: list[int] = []
            answers: list[tuple[list[int], asyncio.Task[Completion]]] = []
            async for chunk in engine.complete(request_of(context_of(*ids), max_tokens=150)):
                for token in chunk.ids:
                    written.append(token)
                    if len(written) % 15 == 0:
                        fork = [*ids, *written, 7]
                        answers.append((fork, asyncio.create_task(complete(engine, request_of(context_of(*fork))))))
            assert written == generate(ids, 150)
            assert len(answers) == 10
            for fork, task in answers:
                answer = await task
                assert answer.ids == generate(fork, 8)
                # The newest token may not have been computed when the fork began.
                assert answer.finish.cached_tokens >= len(fork) - 2
            check_at_rest(engine.statistics())

    asyncio.run(main())


def test_branches_that_say_the_same_are_both_right(make_engine: Make, generate: Generate) -> None:
    async def main() -> None:
        async with make_engine() as engine:
            ids = some_ids(20)
            twins = await asyncio.gather(
                *(complete(engine, request_of(context_of(*ids), max_tokens=60)) for _ in range(4))
            )
            assert [twin.ids for twin in twins] == [generate(ids, 60)] * 4
            longer = [*ids, *twins[0].ids, 9]
            assert (await complete(engine, request_of(context_of(*longer)))).ids == generate(longer, 8)
            check_at_rest(engine.statistics())  # the duplicates are gone

    asyncio.run(main())


def test_no_tokens_fill_the_cache(make_engine: Make) -> None:
    async def main() -> None:
        async with make_engine() as engine:
            context = context_of(*some_ids(30))
            assert (await complete(engine, request_of(context, max_tokens=0))).finish.cached_tokens == 0
            assert (await complete(engine, request_of(context, max_tokens=0))).finish.cached_tokens == 29
            assert (await complete(engine, request_of(context.extend([5], "")))).finish.cached_tokens == 30
            assert engine.statistics().computed_tokens == 30 + 1

    asyncio.run(main())


def test_old_contexts_are_forgotten_when_the_cache_is_full(make_engine: Make, generate: Generate) -> None:
    async def main() -> None:
        async with make_engine(cache_tokens=200) as engine:
            kept = some_ids(50)
            for seed in range(1, 12):
                await complete(engine, request_of(context_of(*kept), max_tokens=1))
                ids = some_ids(60, seed=seed)
                assert (await complete(engine, request_of(context_of(*ids), max_tokens=20))).ids == generate(ids, 20)
                assert engine.statistics().stored_tokens <= 200
            # What was used all the time is still there, what came first is not.
            assert (await complete(engine, request_of(context_of(*kept)))).finish.cached_tokens == 49
            first = await complete(engine, request_of(context_of(*some_ids(60, seed=1))))
            assert first.finish.cached_tokens == 0

    asyncio.run(main())


def test_branches_wait_or_start_again_when_memory_is_short(make_engine: Make, generate: Generate) -> None:
    async def main() -> None:
        async with make_engine(cache_tokens=300, max_running=8) as engine:
            prompts = [[10 + seed, *some_ids(19, seed=seed)] for seed in range(8)]
            answers = await asyncio.gather(
                *(complete(engine, request_of(context_of(*ids), max_tokens=100)) for ids in prompts)
            )
            assert [answer.ids for answer in answers] == [generate(ids, 100) for ids in prompts]
            statistics = engine.statistics()
            assert statistics.preempted > 0
            assert statistics.stored_tokens <= 300
            assert [answer.finish.cached_tokens for answer in answers] == [0] * 8
            check_at_rest(statistics)

    asyncio.run(main())


def test_more_branches_than_may_run_wait_their_turn(make_engine: Make) -> None:
    async def main() -> None:
        async with make_engine(max_running=2) as engine:
            contexts = [context_of(*some_ids(9, seed=seed)) for seed in range(7)]
            answers = await asyncio.gather(*(complete(engine, request_of(context)) for context in contexts))
            assert all(len(answer.ids) == 8 for answer in answers)
            check_at_rest(engine.statistics())

    asyncio.run(main())


def test_a_context_that_does_not_fit_is_refused(make_engine: Make) -> None:
    async def main() -> None:
        async with make_engine() as engine:
            with pytest.raises(ContextOverflow) as caught:
                await complete(engine, request_of(context_of(*some_ids(CONTEXT))))
            assert (caught.value.tokens, caught.value.limit) == (CONTEXT + 1, CONTEXT)
        async with make_engine(cache_tokens=100) as engine:
            with pytest.raises(ContextOverflow):
                await complete(engine, request_of(context_of(*some_ids(100))))
            assert (await complete(engine, request_of(context_of(*some_ids(100)), max_tokens=0))).ids == []

    asyncio.run(main())


def test_a_completion_ends_where_the_model_s_context_ends(make_engine: Make, generate: Generate) -> None:
    async def main() -> None:
        async with make_engine() as engine:
            ids = some_ids(CONTEXT - 5)
            answer = await complete(engine, request_of(context_of(*ids), max_tokens=100))
            assert answer.ids == generate(ids, 5)
            assert answer.finish.reason == "length"

    asyncio.run(main())


def test_a_sliding_window_bounds_the_context(checkpoints, make_engine: Make, generate: Generate) -> None:
    async def main() -> None:
        async with make_engine(checkpoints["window"]) as engine:
            ids = some_ids(60)
            answer = await complete(engine, request_of(context_of(*ids), max_tokens=100))
            assert answer.ids == generate(ids, 36, model="window")
            with pytest.raises(ContextOverflow, match="96"):
                await complete(engine, request_of(context_of(*some_ids(96))))

    asyncio.run(main())


def test_the_model_s_end_token_ends_a_completion(
    checkpoint: Path, tmp_path: Path, make_engine: Make, generate: Generate
) -> None:
    ids = some_ids(10)
    whole = generate(ids, 20)
    end = whole[10]
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [VOCABULARY - 1, end]}))

    async def main() -> None:
        async with make_engine(tmp_path) as engine:
            answer = await complete(engine, request_of(context_of(*ids), max_tokens=20))
            assert answer.ids == whole[: whole.index(end) + 1]
            assert (answer.finish.reason, answer.finish.matched) == ("stop", end)

    asyncio.run(main())


def test_a_seed_gives_the_same_tokens_whatever_runs_beside_it(make_engine: Make) -> None:
    def draw(ids: list[int], seed: int | None) -> dict[str, object]:
        return {
            "context": context_of(*ids),
            "max_tokens": 40,
            "sampling": Sampling(temperature=0.8, top_p=0.95, top_k=50, seed=seed),
        }

    async def main() -> None:
        async with make_engine() as engine:
            ids = some_ids(30)
            alone = await complete(engine, request_of(**draw(ids, 3)))
            beside = [request_of(**draw(some_ids(20 + seed, seed=seed), None)) for seed in range(12)]
            among, other, *_ = await asyncio.gather(
                complete(engine, request_of(**draw(ids, 3))),
                complete(engine, request_of(**draw(ids, 4))),
                *(complete(engine, request) for request in beside),
            )
            assert among.ids == alone.ids != other.ids

    asyncio.run(main())


def test_a_failure_of_the_model_reaches_the_readers_and_passes(make_engine: Make, monkeypatch) -> None:
    from sprint_agents.engines.local import model

    async def main() -> None:
        async with make_engine() as engine:
            context = context_of(*some_ids(20))
            whole = (await complete(engine, request_of(context))).ids
            forward, calls = model.Model.forward, []

            def failing(*arguments: object) -> object:
                calls.append(None)
                if len(calls) == 4:
                    raise RuntimeError("out of memory")
                return forward(*arguments)

            with monkeypatch.context() as patch:
                patch.setattr(model.Model, "forward", failing)
                results = await asyncio.gather(
                    *(complete(engine, request_of(context, max_tokens=50)) for _ in range(3)), return_exceptions=True
                )
            assert [type(result) for result in results] == [EngineUnavailable] * 3
            assert all(isinstance(result.__cause__, RuntimeError) for result in results)
            assert engine.statistics().failed == 3
            check_at_rest(engine.statistics())
            assert (await complete(engine, request_of(context))).ids == whole

    asyncio.run(main())


def test_a_loop_that_is_gone_leaves_nothing_running(make_engine: Make) -> None:
    engine = make_engine()
    loop = asyncio.new_event_loop()
    stream = engine.complete(request_of(context_of(*some_ids(20)), max_tokens=400))
    loop.run_until_complete(anext(stream))
    loop.close()  # without shutdown_asyncgens, as a crash would

    async def main() -> None:
        async with engine:
            while engine.statistics().running:
                await complete(engine, request_of(context_of(5), max_tokens=1))
            assert engine.statistics().aborted == 1
            check_at_rest(engine.statistics())

    asyncio.run(main())
    del stream


def test_closing_while_it_loads_is_fine(make_engine: Make) -> None:
    async def main() -> None:
        engine = make_engine()
        loading = asyncio.create_task(complete(engine, request_of(context_of(5))))
        await asyncio.sleep(0)
        await engine.aclose()
        with pytest.raises(EngineUnavailable, match="closed"):
            await loading

    asyncio.run(main())


def test_an_engine_that_was_never_used_closes(make_engine: Make) -> None:
    engine = make_engine()
    assert asdict(engine.statistics()) == asdict(LocalStatistics())
    asyncio.run(engine.aclose())
    with pytest.raises(EngineUnavailable, match="closed"):
        asyncio.run(complete(engine, request_of(context_of(5))))


def test_ids_that_are_none_are_refused(make_engine: Make) -> None:
    async def main() -> None:
        engine = make_engine()
        for wrong in ([VOCABULARY], [-1]):
            with pytest.raises(InvalidRequest):
                await complete(engine, request_of(context_of(*wrong)))
        with pytest.raises(InvalidRequest):
            await engine.decode([-1])
        await engine.aclose()

    asyncio.run(main())


def test_a_closed_engine_leaves_no_thread() -> None:
    async def main() -> None:
        async with LocalEngine(nano_path(), threads=1) as engine:
            await engine.encode("x")

    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if thread.name == "sprint-local-engine"]


@pytest.mark.parametrize("continued", [False, True])
def test_tokens_that_nobody_read_count(make_engine: Make, *, continued: bool) -> None:
    """A program that keeps its event loop busy reads late, while the engine continues."""

    limit = 3 if continued else 200

    async def extend() -> int:
        return 200

    async def main() -> None:
        async with make_engine() as engine:
            state = State(engine, sampling=Sampling(logit_bias={0: -100}))
            await state.append("a text")
            generation = state.stream(max_tokens=limit, extend=extend if continued else None)
            async with generation:
                chunks = aiter(generation)
                while generation.tokens <= (limit if continued else 0):
                    await anext(chunks)
                before = engine.statistics().generated_tokens
                while engine.statistics().generated_tokens < before + 5:
                    time.sleep(0.001)  # noqa: ASYNC251 - it blocks the loop
            assert len(generation.ids) + 5 <= generation.tokens == engine.statistics().generated_tokens

    asyncio.run(main())
