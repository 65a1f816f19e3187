import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import State, Stops
from sprint_agents.errors import EngineUnavailable
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual


def test_generate_appends_the_ids_as_they_came():
    async def main():
        async with FakeEngine(lambda request: " two three") as engine:
            state = State(engine)
            await state.append("one")
            before = state.context.flatten()
            generation = await state.generate(max_tokens=10)
            assert state.context.flatten() == before + generation.ids
            assert state.context.text.startswith("one two three")

    asyncio.run(main())


def test_a_failed_completion_leaves_the_state_where_it_was():
    async def main():
        async with FakeEngine([Reply("one two three", fault=Fault.drop(after=2))]) as engine:
            state = State(engine)
            await state.append("question")
            before = state.context
            with pytest.raises(EngineUnavailable):
                await state.generate(max_tokens=10)
            assert state.context is before

    asyncio.run(main())


@given(st.lists(st.floats(0, 5), min_size=1, max_size=8))
def test_join_is_in_branch_order_whatever_the_finishing_order(delays):
    async def main():
        def respond(request):
            number = int(request.text.rsplit("#", 1)[1])
            return Reply(f" answer {number}", delay=delays[number])

        async with FakeEngine(respond) as engine:
            state = State(engine)
            await state.append("question ")
            start = state.context
            async with state.fork(len(delays)) as fork:
                for number, branch in enumerate(fork.branches):
                    await branch.append(f"#{number}")
                    fork.start(branch.generate(max_tokens=10))
                await fork.gather()
            await state.join(fork.branches, separator="\n")
            ends = [branch.context.text_since(start) for branch in fork.branches]
            assert state.context.text == "question " + "".join(f"{end}\n" for end in ends)
            for number, branch in enumerate(fork.branches):
                assert branch.context.text.startswith(f"question #{number} answer {number}")
                assert branch.context.flatten()[: len(start)] == start.flatten()

    run_virtual(main())


def test_leaving_a_fork_aborts_what_still_runs():
    async def main():
        async with FakeEngine(lambda request: Reply("never", fault=Fault.hang())) as engine:
            state = State(engine)
            await state.append("question ")
            async with state.fork(3) as fork:
                for branch in fork:
                    fork.start(branch.generate(max_tokens=10))
                await asyncio.sleep(1)
                assert engine.account().running == 3
            assert engine.account().running == 0
            assert engine.account().aborted == 3

    run_virtual(main())


def test_a_failing_branch_ends_its_siblings_and_is_raised_as_itself():
    async def main():
        def respond(request):
            failing = request.text.endswith("0")
            return Reply("x", delay=1, fault=Fault.drop()) if failing else Reply("y", fault=Fault.hang())

        async with FakeEngine(respond) as engine:
            state = State(engine)

            async def race():
                async with state.fork(4) as fork:
                    for number, branch in enumerate(fork):
                        await branch.append(str(number))
                        fork.start(branch.generate(max_tokens=10))
                    await fork.gather()

            with pytest.raises(EngineUnavailable):
                await race()
            account = engine.account()
            assert (account.running, account.failed, account.aborted) == (0, 1, 3)

    run_virtual(main())


def test_a_cancellation_from_outside_is_not_hidden_by_what_a_branch_raises_meanwhile():
    async def fails_when_cancelled():
        try:
            await asyncio.sleep(3600)
        finally:
            raise KeyError("clean-up")

    async def main():
        async with asyncio.timeout(1), State(FakeEngine("unused")).fork() as fork:
            fork.start(fails_when_cancelled())
            await fork.gather()

    with pytest.raises(TimeoutError):
        run_virtual(main())


def test_an_error_of_the_block_itself_is_raised_as_itself():
    async def main():
        async with FakeEngine(lambda request: Reply("y", fault=Fault.hang())) as engine:
            state = State(engine)
            await state.append("question ")

            async def broken_block():
                async with state.fork(2) as fork:
                    for branch in fork:
                        fork.start(branch.generate(max_tokens=10))
                    await asyncio.sleep(1)
                    raise KeyError("mine")

            with pytest.raises(KeyError):
                await broken_block()
            assert engine.account().running == 0

    run_virtual(main())


@given(st.integers(1, 7), st.lists(st.integers(0, 40), max_size=6))
def test_a_cut_is_the_context_up_to_a_character_whatever_the_chunks(chunk_tokens, offsets):
    text = "alpha  beta</prompt_1.1>\ngamma, delta <prompt_1.2>"

    async def main():
        async with FakeEngine(lambda request: text, latency=Latency(token=0.01), chunk_tokens=chunk_tokens) as engine:
            state = State(engine)
            await state.append("question ")
            start = state.context
            async with state.stream(max_tokens=100) as generation:
                async for _ in generation:
                    pass
                for offset in sorted(offsets):
                    cut = await generation.cut(offset)
                    assert cut.text == "question " + text[:offset]
                    assert cut.flatten()[: len(start)] == start.flatten()
            # Cutting does not change what joins the context.
            assert state.context.ids_since(start) == generation.ids

    run_virtual(main())


def test_cuts_share_the_tokens_before_them():
    async def main():
        async with FakeEngine(lambda request: "a b c d e f", latency=Latency(token=0.01)) as engine:
            state = State(engine)
            await state.append("question ")
            async with state.stream(max_tokens=100) as generation:
                async for _ in generation:
                    pass
            first, second = await generation.cut(3), await generation.cut(7)
            assert second.parent is first

    run_virtual(main())


def test_stops_that_are_one_token_become_ids():
    async def main():
        async with FakeEngine(lambda request: "so </Plan_1> more") as engine:
            stops = await Stops.resolve(engine, ["</Plan_", "two words"])
            assert len(stops.ids) == 1
            assert stops.texts == ("two words",)
            state = State(engine)
            await state.append("question ")
            generation = await state.generate(max_tokens=100, stops=stops)
            assert generation.text.endswith("</Plan_")

    asyncio.run(main())
