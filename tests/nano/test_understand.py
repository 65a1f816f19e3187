import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.errors import InvalidCheckpoint, UnsupportedTask
from sprint_agents.manifest import Manifest
from sprint_agents.nano import nano_path
from sprint_agents.nano.ranges import ArithmeticRange, CountdownRange, MultiplicationRange, TaskRanges
from sprint_agents.nano.tasks import FAMILIES, Arithmetic, Countdown, Multiplication, recognise, understand
from sprint_agents.tasks import read_task

RANGES = TaskRanges(
    countdown=CountdownRange(counts=(3, 4), numbers=(1, 50), targets=(10, 100)),
    arithmetic=ArithmeticRange(
        groups=(2, 3), outer=(0, 1), operations=(1, 3), levels=(1, 2), numbers=(1, 99), values=(1, 200)
    ),
    multiplication=MultiplicationRange(smaller=(10, 99), larger=(10, 999), products=(201, 98901)),
)
MANIFEST = Manifest(model="tiny", tasks=RANGES.model_dump(mode="json"))
OLD = (
    """{"model": "sprint-nano", "tasks": {"countdown": {"counts": [3, 4], "numbers": [1, 50], "targets": [10, 100]}}}"""
)


def test_a_family_is_named_as_its_range_is():
    assert tuple(FAMILIES) == tuple(TaskRanges.model_fields) == RANGES.kinds


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
    assert understand(text, MANIFEST) == (task.prompt, task)
    assert recognise(text) == task
    read = read_task(text, MANIFEST)
    assert (read.prompt, read.check.__self__) == (task.prompt, task)


PRODUCT, GROUPS = "Multiply 12 by 345.", "Compute (12 + 7) * (9 - 4) - 18."


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("12 * 345", PRODUCT),
        ("345*12", PRODUCT),
        ("12x345", PRODUCT),
        ("12 X 345", PRODUCT),
        ("12×345 =", PRODUCT),
        ("12 · 345 = ?", PRODUCT),
        ("12*345=?", PRODUCT),
        ("12 * 345?", PRODUCT),
        ("What is 12 * 345?", PRODUCT),
        ("what’s 12 times 345 ?", PRODUCT),  # noqa: RUF001
        ("What's 12*345", PRODUCT),
        ("compute 12 * 345", PRODUCT),
        ("Calculate 12 * 345.", PRODUCT),
        ("Solve 12 * 345.", PRODUCT),
        ("Solve the following multiplication: 12 * 345. Give only the result as your final answer.", PRODUCT),
        ("(12+7)*(9-4)-18", GROUPS),
        ("  (12 + 7)×(9 − 4) − 18 = ? ", GROUPS),
        ("[12+7]x{9-4}-18", GROUPS),
        ("What is (12+7)*(9-4)-18?", GROUPS),
        ("Evaluate: (12 + 7) · (9 - 4) - 18 =", GROUPS),
    ],
)
def test_a_bare_expression_is_understood(text, prompt):
    assert understand(text, MANIFEST)[0] == prompt
    assert read_task(text, MANIFEST)[0] == prompt


MAKE = "Use 25, 7, 3 to make 46."
FORMAT = """

Final answer format instructions:
1. Provide your solution as a arithmetic expression (no '=' sign).
2. Do not include the target number in the expression.
3. Use '*' for multiplication.
4. Use '/' for division.
5. Do not include any other text or formatting.
"""


@pytest.mark.parametrize("ending", ["", FORMAT])
@pytest.mark.parametrize(
    "text",
    [
        "Using all the numbers 7, 25, 3, create an expression that equals 46.\nYou can only use each number once.",
        "Find a way to make 46 using all of these numbers: 7, 25, 3.\nEach number can only be used once.",
        "Calculate 46 using all of these numbers: 7, 25, 3.\nEach number may be used at most once.",
    ],
)
def test_countdown_is_understood_in_the_words_of_reasoning_gym(text, ending):
    assert understand(text + ending, MANIFEST)[0] == MAKE
    assert recognise(text + ending) is None  # other people's words, so perhaps other people's rules


@pytest.mark.parametrize(
    "text",
    [
        "Calculate 46 using all of these numbers: 7, 25, 3. Use no division.",
        "Calculate 46 using some of these numbers: 7, 25, 3.",
        "Calculate 46 using all of these numbers: 7, 25, x.",
        "Find a way to make 46 using all of these numbers: 46.",
        "Calculate 46 using all of these numbers: " + "7, " * 10**6,
        "Solve the following multiplication: 12 * 345. Give only the digits.",
    ],
)
def test_what_is_added_to_a_problem_is_not_left_out(text):
    with pytest.raises(UnsupportedTask):
        understand(text, MANIFEST)


def test_an_expression_of_one_group_is_understood_by_a_model_that_was_trained_on_it():
    small = RANGES.arithmetic.model_copy(update={"groups": (0, 3), "levels": (0, 2)})
    manifest = MANIFEST.model_copy(update={"tasks": TaskRanges(arithmetic=small).model_dump(mode="json")})
    assert understand("(3+4)*5-2", manifest) == ("Compute (3 + 4) * 5 - 2.", Arithmetic(expression="(3+4)*5-2"))
    assert understand("12 * 3", manifest)[0] == "Compute 12 * 3."


def test_a_bare_expression_does_not_say_that_it_is_ours():
    assert recognise("12 * 345") is recognise("What is 12 * 345?") is recognise("(3+4)*5-2") is None
    assert recognise("compute 12 * 345") == Arithmetic(expression="12 * 345")


@pytest.mark.parametrize(
    "text",
    [
        "12 *",
        "* 12",
        "12 345",
        "12 ** 345",
        "12 * -345",
        "1.5 * 300",
        "12,345 * 6",
        "What is",
        "What is the answer?",
        "is 12 * 345",
        "= 12 * 345",
        "xx",
        "x",
        "12xx345",
        "12 * 345 = 4140",
        "12 * y",
        "١٢ * ٣٤٥",
        "¹² * 345",
        "_12 * 345",
    ],
)
def test_what_only_looks_like_an_expression_is_not_understood(text):
    with pytest.raises(UnsupportedTask, match="is none of these"):
        understand(text, MANIFEST)


HOSTILE = [
    "compute" + " " * 390 + "x",
    "countdown" + " " * 100_000 + "x",
    "use 1" + ", 1" * 50_000 + " to make",
    "multiply 2" + " " * 100_000,
    "9" * 5_000,
    "countdown 3 7 " + "9" * 5_000,
    "Use 3, 7 to make " + "9" * 5_000,
    "multiply 3 " + "9" * 5_000,
    "compute 1+" + "9" * 5_000,
    "(" * 390,
    "(" * 200 + "1" + ")" * 200,
    "(" * 100 + "1+1" + ")+1" * 90,
    "1" + "+1" * 199,
    "1" + "/7" * 199,
    "(" * 1_000_000,
    "what is " * 1_000,
    "= ? " * 90,
    ": " * 190,
    "compute" + ":" * 380,
    "x" * 400,
    "x " * 200,
    "\ud800" * 300,
    "\0" * 390,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_task_is_refused_at_once(text):
    started = time.process_time()
    with pytest.raises(UnsupportedTask) as caught:
        understand(text, MANIFEST)
    assert time.process_time() - started < 1
    assert len(str(caught.value)) < 1_000
    recognise(text)
    for task in (Countdown(numbers=(3, 7), target=10), Arithmetic(expression="1+2"), Multiplication(first=3, second=4)):
        assert task.check(text) is False
    assert time.process_time() - started < 2


@given(st.text(alphabet="0123456789 +-*/()[]{}x×=?.,:'whatiscompute\n", max_size=450))
def test_any_text_is_understood_or_refused(text):
    try:
        prompt, task = understand(text, MANIFEST)
    except UnsupportedTask:
        return
    assert understand(prompt, MANIFEST) == (prompt, task)


@pytest.mark.parametrize(
    "text", ["use 3 and 7 to reach 21", "  countdown 3 7 25 46\n", "multiply 3 4", "\t12 * 345 \r\n", "é" * 1_000]
)
@pytest.mark.parametrize("manifest", [None, Manifest(model="general")])
def test_a_model_without_tasks_gets_the_text_as_it_was_written(text, manifest):
    assert read_task(text, manifest) == (text, None, None)


@pytest.mark.parametrize("manifest", [None, Manifest(model="general"), MANIFEST])
@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_an_empty_task_is_refused_for_every_model(text, manifest):
    with pytest.raises(UnsupportedTask, match="the task is empty"):
        read_task(text, manifest)


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
        ("multiply 10 10", "product from 201 to 98901, not 100; try '28 [*] 347'"),
        ("arithmetic 1+2", "not 0; try '.12[+]7.[*].9-4.-18'"),
        (
            "7 * 8",
            "groups of numbers, not 0; try .* It was also trained on multiplication with a smaller .* not 7; try",
        ),
        ("countdown 3 7 25 500", "not on 500; try 'countdown 3 7 25 50 79'"),
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
    assert TaskRanges.of(Manifest.load(tmp_path)) == TaskRanges(countdown=RANGES.countdown)


@pytest.mark.parametrize(
    "checkpoint", [nano_path(), Path(__file__).parents[2] / "finetune" / "models" / "sprint-nano-rft"]
)
def test_the_checkpoints_of_the_repository_take_every_kind_of_task(checkpoint):
    manifest = Manifest.load(checkpoint)
    assert TaskRanges.of(manifest).kinds == tuple(FAMILIES)
    for family in FAMILIES.values():
        for form in family.forms:
            assert understand(form, manifest)[1].name == family.name


@pytest.mark.parametrize(
    "tasks", ['{"countdown": {"smaller": [1, 2]}}', '{"chess": {"numbers": [1, 2]}}', '{"multiplication": {}}']
)
def test_a_range_of_another_task_is_refused(tmp_path, tasks):
    (tmp_path / "sprint.json").write_text(f'{{"model": "m", "tasks": {tasks}}}')
    manifest = Manifest.load(tmp_path)
    with pytest.raises(InvalidCheckpoint, match=r"sprint.json of m is not valid: tasks\."):
        read_task("multiply 28 347", manifest)


def test_the_library_loads_the_toy_problems_only_for_a_checkpoint_that_asks():
    code = """
import sys
import sprint_agents, sprint_agents.policies, sprint_agents.testing
from sprint_agents.manifest import Manifest
def loaded(): return [name for name in sys.modules if name.startswith("sprint_agents.nano")]
engine = sprint_agents.testing.FakeEngine("<Final_answer>21</Final_answer>", manifest=Manifest(model="general"))
sprint_agents.Sprint(engine).run_sync("use 3 and 7 to reach 21")
assert not loaded(), loaded()
tasks = {"multiplication": {"smaller": [1, 9], "larger": [1, 9], "products": [1, 81]}}
engine = sprint_agents.testing.FakeEngine("<Final_answer>21</Final_answer>", manifest=Manifest(model="m", tasks=tasks))
assert sprint_agents.Sprint(engine).run_sync("3 * 7").verified
assert loaded()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
