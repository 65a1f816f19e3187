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
    started, release = threading.Event(), threading.Event()

    async def main() -> float:
        work = asyncio.create_task(asyncio.to_thread(lambda: started.set() or release.wait(60)))
        # The clock must not jump over the 3600 s while the thread works; the thread ends once the loop waits for it.
        threading.Thread(target=lambda: started.wait(60) and release.set()).start()
        async with asyncio.timeout(3600):
            assert await work
        return now()

    assert run_virtual(main()) == 0


def test_a_foreign_thread_can_wake_a_loop_without_timers() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(woken.set_result, "woken"))
        loop.call_soon(thread.start)
        try:
            return await woken
        finally:
            thread.join()

    assert run_virtual(main()) == "woken"


def test_sockets_are_waited_for() -> None:
    async def main() -> tuple[bytes, float]:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            sender = threading.Thread(target=right.sendall, args=(b"hello",))
            loop.call_soon(sender.start)
            async with asyncio.timeout(3600):
                received = await loop.sock_recv(left, 5)
            sender.join()
        return received, now()

    assert run_virtual(main()) == (b"hello", 0)


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
