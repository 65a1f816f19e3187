"""Curated files are read, or refused with the fault and its position."""

import json

import pytest
from structlog.testing import capture_logs

from sprint_agents.errors import ConfigurationError
from sprint_agents.manifest import Manifest
from sprint_finetune.nano import arithmetic
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.nano.traces import planner
from sprint_finetune.training.calls import calls_of
from sprint_finetune.training.corpus import LengthLimits, TrainingSample, build_tries, flatten_calls, read_samples
from sprint_finetune.training.encoding import encode_calls
from sprint_finetune.training.settings import Settings

LINE = {"id": "a", "problem": "1+1?", "text": "1+1?\n<think>\n2\n</think>\n<Final_answer>\n2\n</Final_answer>"}


def settings(**changes):
    return Settings(model="m", data=("d",), output="o", manifest=Manifest(model="m"), **changes)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def samples():
    made = []
    for seed in range(3):
        work = next(arithmetic.problems(seed=seed, split="train"))
        text = "".join(piece.text for piece in planner(work).pieces)
        made.append(TrainingSample(id=str(seed), problem=work.task.prompt, text=text))
    return made


def write(path, *lines):
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_samples_come_in_order_and_other_columns_are_left_to_others(tmp_path):
    first = write(tmp_path / "a.jsonl", {**LINE, "ratio": 2.5}, "", {**LINE, "id": "b"})
    second = write(tmp_path / "b.jsonl", {**LINE, "id": "c"})
    assert [sample.id for sample in read_samples([first, second])] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "data.jsonl has no samples"),
        (["{"], "data.jsonl:1 is not valid JSON"),
        (["[1]"], "data.jsonl:1 is not a JSON object with id, problem and text: give JSON lines, as"),
        ([LINE, {"id": "b", "question": "?"}], "data.jsonl:2 .*problem: .*text: .*its columns are id, question"),
        ([LINE, LINE], "data.jsonl:2: the id 'a' is not unique"),
        ([{**LINE, "text": ""}], "text: .*at least 1"),
        (['{"id": ' + 5000 * "7" + "}"], "data.jsonl:1 is not valid JSON: .*4300 digits.* Remove the line"),
        ([100_000 * "["], "data.jsonl:1 is not valid JSON: .*recursion.* Remove the line"),
        (['{"id": "a", "problem": "\\ud800", "text": "a"}'], "half of a surrogate pair, .*: remove it"),
        ([{**LINE, "id": 7}], "data.jsonl:1 is not a sample: id: Input should be a valid string"),
    ],
)
def test_bad_files_are_refused(tmp_path, lines, message):
    with pytest.raises(ConfigurationError, match=message):
        read_samples([write(tmp_path / "data.jsonl", *lines)])


def test_other_encodings_and_formats_are_refused(tmp_path):
    path = tmp_path / "data.parquet"
    path.write_bytes(b"PAR1\xff")
    with pytest.raises(ConfigurationError, match=r"data\.parquet is not text in UTF-8 .*: give JSON lines, as"):
        read_samples([path])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.jsonl cannot be read"):
        read_samples([tmp_path / "nowhere.jsonl"])


def test_a_long_line_is_read(tmp_path):
    long = {**LINE, "text": LINE["text"].replace("\n2\n</think>", "\n" + "2 " * 2**19 + "\n</think>")}
    assert len(read_samples([write(tmp_path / "long.jsonl", long)])[0].text) > 2**20


PLAN = "<Plan_1>\n<prompt_1.1>\n1+1\n</prompt_1.1>\n</Plan_1>\n"
END = "<Final_answer>\n2\n</Final_answer>"


@pytest.mark.parametrize(
    "text",
    [
        "1+1? 2.",
        f"1+1?\n{PLAN}{END}",  # a prompt without an execution
    ],
)
def test_a_text_that_is_no_trajectory_is_named(tokenizer, text):
    broken = TrainingSample(id="broken", problem="1+1?", text=text)
    with pytest.raises(
        ConfigurationError, match=r"sample 'broken': this is not a well-formed trajectory.*`sprint-finetune curate`"
    ):
        build_tries([broken], tokenizer, settings(), limits=LengthLimits(context=100))


def test_an_empty_execution_is_read(tokenizer):
    text = f"1+1?\n{PLAN}<Execution_1>\n<execution_1.1>\n\n</execution_1.1>\n</Execution_1>\n{END}"
    sample = TrainingSample(id="a", problem="1+1?", text=text)
    assert build_tries([sample], tokenizer, settings(), limits=LengthLimits(context=1000))


def test_the_three_ways(tokenizer, samples):
    calls = calls_of(samples[0].text)
    paths = encode_calls(calls, tokenizer)
    (one,) = flatten_calls(calls, tokenizer, way="causal")
    every = flatten_calls(calls, tokenizer, way="calls")
    (trie,) = flatten_calls(calls, tokenizer, way="trie")
    assert one.is_chain
    assert one.ids.tolist() == paths[0].ids
    assert [trie.ids.tolist() for trie in every] == [path.ids for path in paths]
    assert len(trie) < sum(map(len, every))
    assert len(trie.targets) == sum(len(trie.targets) for trie in every)
    question = len(tokenizer.encode(calls[0].pieces[0].text))
    assert one.parents.tolist() == list(range(question - 1, len(one) - 1))


def test_samples_that_are_too_long_are_refused_or_left_out(tokenizer, samples):
    depths = [
        build_tries([sample], tokenizer, settings(), limits=LengthLimits(context=4096))[0].depth for sample in samples
    ]
    limits = LengthLimits(context=min(depths))
    with pytest.raises(ConfigurationError, match=rf"of 3 samples are too long: .* over context = {min(depths)}"):
        build_tries(samples, tokenizer, settings(), limits=limits)
    with capture_logs() as logs:
        kept = build_tries(samples, tokenizer, settings(overlong="skip"), limits=limits)
    assert len(kept) == depths.count(min(depths))
    assert [(log["event"], log["count"]) for log in logs] == [("samples left out", 3 - len(kept))]
    with pytest.raises(ConfigurationError, match=r"3 of 3 samples are too long: .* over row_tokens = 20"):
        build_tries(samples, tokenizer, settings(overlong="skip"), limits=LengthLimits(context=4096, row_tokens=20))
