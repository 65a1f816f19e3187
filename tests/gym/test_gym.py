"""The real reasoning-gym: tasks, scores, and answers that attack a scorer."""

import asyncio
from pathlib import Path

import pytest

from sprint_agents import Sprint
from sprint_agents.errors import ConfigurationError, MissingExtra
from sprint_agents.gym import Gym, GymTask
from sprint_agents.gym import gym as gym_module
from sprint_agents.testing import FakeEngine

GENERATORS = ["leg_counting", "game_of_life_halting", "prime_factorization", "string_insertion", "countdown"]


@pytest.fixture(scope="module")
def in_gym():
    """Runs an async function of a gym; one gym for all tests, since its process takes seconds to start."""
    with asyncio.Runner() as runner:
        gym = Gym(processes=1, seconds=5)
        runner.run(gym.__aenter__())
        yield lambda use: runner.run(use(gym))
        runner.run(gym.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def tasks(in_gym) -> dict[str, GymTask]:
    async def make(gym):
        return {task.generator: task for task in await gym.tasks(GENERATORS, count=1, seed=1)}

    return in_gym(make)


def test_tasks_are_the_same_each_time_and_their_own_answers_are_right(in_gym):
    async def use(gym):
        tasks = await gym.tasks(["leg_counting", "products"], count=3, seed=7)
        assert tasks == await gym.tasks(["leg_counting", "products"], count=3, seed=7)
        assert tasks != await gym.tasks(["leg_counting", "products"], count=3, seed=8)
        assert [task.id for task in tasks][2:4] == ["leg_counting-3", "products-1"]
        assert "legs" in tasks[0].task
        assert [await gym.is_right(task, task.answer) for task in tasks] == [True] * 6
        assert [await gym.score(task, "-1") for task in tasks] == [0] * 6

    in_gym(use)


@pytest.mark.parametrize("answer", ["junk", "", " ", "9" * 5000, "\ud800", "17 zzz <b>", "None", "0/0", "((", "\0"])
def test_a_wrong_answer_is_wrong_whatever_the_scorer_does_with_it(in_gym, tasks, answer):
    async def use(gym):
        return {name: await gym.is_right(task, answer) for name, task in tasks.items()}

    assert in_gym(use) == dict.fromkeys(GENERATORS, False)


def test_where_a_scorer_accepts_anything_the_text_decides(in_gym, tasks):
    task = tasks["game_of_life_halting"]

    async def use(gym):
        return [await gym.score(task, answer) for answer in (" false\n", "true", "I do not know")]

    assert (task.answer, in_gym(use)) == ("False", [1, 0, 0])


@pytest.mark.parametrize(
    "answer",
    [
        "open({path!r}, 'w').write('x')",
        "__import__('pathlib').Path({path!r}).write_text('x')",
        "__import__('os').system('touch {path}')",
        "__import__('subprocess').run(['touch', {path!r}])",
        "__import__('shutil').copy('/etc/hostname', {path!r})",
        "__import__('os').mkdir({path!r})",
        "exit()",
    ],
)
def test_an_answer_that_is_a_program_reaches_nothing(in_gym, tasks, answer, tmp_path: Path):
    # The scorer of string_insertion passes the answer to eval, that of countdown to sympy's parser.
    path = tmp_path / "reached"

    async def use(gym):
        written = answer.format(path=str(path))
        return [await gym.is_right(tasks[name], written) for name in ("string_insertion", "countdown")]

    assert in_gym(use) == [False, False]
    assert not path.exists()


def test_a_scorer_that_takes_too_long_is_ended_and_replaced(in_gym, tasks):
    async def use(gym):
        task = tasks["string_insertion"]
        assert await gym.is_right(task, "9**9**9**9") is None
        return await gym.is_right(task, task.answer)

    assert in_gym(use) is True


def test_wrong_use_says_what_to_do(in_gym, monkeypatch):
    async def use(gym):
        with pytest.raises(ConfigurationError, match="no generator 'legs': use some of ab, acre"):
            await gym.tasks(["leg_counting", "legs"])
        with pytest.raises(ConfigurationError, match="composite made no tasks with its default settings: leave it out"):
            await gym.tasks("composite", count=1)

    in_gym(use)
    monkeypatch.setattr(gym_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="gym"):
        Gym()


def test_runs_of_its_tasks_are_checked(in_gym):
    async def solve(gym):
        tasks = {task.task: task for task in await gym.tasks("leg_counting", count=2)}
        right = next(iter(tasks.values())).answer
        engine = FakeEngine(lambda _: f"<Final_answer>\\boxed{{{right}}}</Final_answer>")
        async with Sprint(engine).map(tasks) as runs:
            return [await gym.is_right(tasks[run.task], run.answer) async for run in runs]

    assert sorted(in_gym(solve)) == [False, True]
