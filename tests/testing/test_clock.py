import asyncio
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.testing import VirtualTimeLoop, run_virtual


def now() -> float:
    return asyncio.get_running_loop().time()


@given(st.lists(st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000), max_size=12))
def test_every_timer_fires_at_its_time_and_in_order(delays: list[float]) -> None:
    fired: list[tuple[float, float]] = []

    async def wait(delay: float) -> None:
        await asyncio.sleep(delay)
        fired.append((delay, now()))

    async def main() -> None:
        await asyncio.gather(*(wait(delay) for delay in delays))

    run_virtual(main())
    assert fired == [(delay, delay) for delay in sorted(delays)]


def test_many_small_steps_add_up_exactly() -> None:
    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(0.1)
        return now()

    assert run_virtual(main()) == 100.0


def test_a_timer_that_is_set_again_until_its_time_has_come_rings_once_more() -> None:
    """The clock is rounded, and a loop rings timers that are due within its resolution."""

    async def main() -> tuple[int, bool]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.1)
        due, rings, done = now() + 0.2, 0, asyncio.Event()
        assert due > 0.3

        def ring() -> None:
            nonlocal rings
            rings += 1
            if now() >= due or rings == 100:
                done.set()
            else:
                loop.call_at(due, ring)

        loop.call_at(due, ring)
        await done.wait()
        return rings, now() >= due

    assert run_virtual(main()) == (2, True)


def test_timeouts_are_virtual_too() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.sleep(3601)
        return now()

    assert run_virtual(main()) == 3600


def test_the_loop_fits_a_runner_and_starts_at_zero_each_time() -> None:
    for _ in range(2):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            assert runner.get_loop().time() == 0
            runner.run(asyncio.sleep(7))
            assert runner.get_loop().time() == 7


def test_work_in_a_thread_takes_no_virtual_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()

        def work() -> None:
            # Each turn leaves the loop with nothing to do but a timer to jump to.
            for _ in range(100):
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(60)

        async with asyncio.timeout(3600):
            await asyncio.to_thread(work)
        return now()

    assert run_virtual(main()) == 0


def test_a_foreign_thread_can_wake_a_loop_without_timers() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[str] = loop.create_future()

        def work() -> None:
            for _ in range(100):
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(60)
            loop.call_soon_threadsafe(woken.set_result, "woken")

        thread = threading.Thread(target=work)
        thread.start()
        try:
            return await woken
        finally:
            thread.join()

    assert run_virtual(main()) == "woken"


def test_sockets_are_waited_for() -> None:
    left, right = socket.socketpair()
    left.setblocking(False)

    def echo() -> None:
        while data := right.recv(1):
            right.sendall(data)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(3600):
            for _ in range(100):
                await loop.sock_sendall(left, b"x")
                assert await loop.sock_recv(left, 1) == b"x"
        return now()

    with left, right:
        server = threading.Thread(target=echo)
        server.start()
        try:
            assert run_virtual(main()) == 0
        finally:
            left.shutdown(socket.SHUT_WR)
            server.join()


def test_a_standstill_is_an_error_that_says_who_waits() -> None:
    async def main() -> None:
        await asyncio.sleep(5)
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match=r"(?s)stands still at 5 s.*test_clock\.py"):
        run_virtual(main())


def test_a_standstill_is_found_beside_idle_worker_threads_and_tasks_are_cleaned_up() -> None:
    cleaned: list[str] = []

    async def main() -> None:
        await asyncio.to_thread(lambda: None)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("yes")

    with pytest.raises(RuntimeError, match="stands still"):
        run_virtual(main())
    assert cleaned == ["yes"]
