import pytest

from sprint_agents.errors import InvalidCheckpoint, UnsupportedTask
from sprint_agents.manifest import ArithmeticRange, CountdownRange, Manifest, MultiplicationRange
from sprint_agents.nano.tasks import FAMILIES, Arithmetic, Countdown, Multiplication, understand

MANIFEST = Manifest(
    model="tiny",
    tasks={
        "countdown": CountdownRange(counts=(3, 4), numbers=(1, 50), targets=(10, 100)),
        "arithmetic": ArithmeticRange(
            groups=(2, 3), outer=(0, 1), operations=(1, 3), levels=(1, 2), numbers=(1, 99), values=(1, 200)
        ),
        "multiplication": MultiplicationRange(smaller=(10, 99), larger=(10, 999), products=(201, 98901)),
    },
)
OLD = (
    """{"model": "sprint-nano", "tasks": {"countdown": {"counts": [3, 4], "numbers": [1, 50], "targets": [10, 100]}}}"""
)


def test_a_family_is_named_as_its_range_is():
    assert list(FAMILIES) == list(MANIFEST.tasks)


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("countdown 3 7 25 46", Countdown(numbers=(3, 7, 25), target=46)),
        ("arithmetic (12+7)*(9-4)-18", Arithmetic(expression="(12 + 7) * (9 - 4) - 18")),
        ("arithmetic [(12+7)*2-5]-(9-4)", Arithmetic(expression="[(12 + 7) * 2 - 5] - (9 - 4)")),
        ("multiply 28 347", Multiplication(first=28, second=347)),
    ],
)
def test_what_lies_in_the_range_is_put_in_the_words_of_training(text, task):
    assert understand(text, MANIFEST) == understand(text, None) == (task.prompt, task)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("What is love?", "tiny understands countdown, arithmetic, multiplication only.*multiply 28 347"),
        ("countdown 3 7 99 46", "3 or 4 numbers from 1 to 50, not on 3, 7, 99"),
        ("countdown 3 7 25 500", "targets from 10 to 100, not on 500"),
        ("arithmetic 1+2", "2 to 3 groups of numbers, not 0"),
        ("arithmetic (1+2)+(3+4)+(5+6)+(7+8)", "2 to 3 groups of numbers, not 4"),
        ("arithmetic [(1+2)*3]+[(3+4)*2]", "0 to 1 groups of groups, not 2"),
        ("arithmetic (1+2)+(3+4+5+6+7)", "1 to 3 operations in a group, not 4"),
        ("arithmetic [3*[(1+2)*3]]+(3+4)", "0 to 1 groups of groups, not 2"),
        ("arithmetic (100+2)-(3+4)", "1 to 99 as its numbers, not 100"),
        ("arithmetic (90*2)+(30+4)", "1 to 200 at every step, not 214"),
        ("arithmetic (9-9)+(30+4)", "1 to 200 at every step, not 0"),
        ("arithmetic (9/2)+(30+4)", "1 to 200 at every step, not 9/2, 77/2"),
        ("multiply 7 347", "smaller number from 10 to 99, not 7"),
        ("multiply 70 3470", "larger number from 10 to 999, not 3470"),
        ("multiply 10 10", "product from 201 to 98901, not 100"),
    ],
)
def test_a_small_model_says_what_it_does_not_understand(text, message):
    with pytest.raises(UnsupportedTask, match=message):
        understand(text, MANIFEST)


def test_a_family_that_was_not_trained_is_not_understood():
    manifest = Manifest.model_validate_json(OLD)
    with pytest.raises(UnsupportedTask, match=r"countdown only.*: countdown 3 7 25 50 79; Use [^;]*$"):
        understand("multiply 28 347", manifest)


def test_a_manifest_reads_back_and_old_ones_still_load(tmp_path):
    assert Manifest.model_validate_json(MANIFEST.model_dump_json()) == MANIFEST
    (tmp_path / "sprint.json").write_text(OLD)
    assert Manifest.load(tmp_path).tasks == {"countdown": MANIFEST.tasks["countdown"]}


@pytest.mark.parametrize(
    "tasks", ['{"countdown": {"smaller": [1, 2]}}', '{"chess": {"numbers": [1, 2]}}', '{"multiplication": {}}']
)
def test_a_range_of_another_task_is_refused(tmp_path, tasks):
    (tmp_path / "sprint.json").write_text(f'{{"model": "m", "tasks": {tasks}}}')
    with pytest.raises(InvalidCheckpoint, match=r"tasks\."):
        Manifest.load(tmp_path)
