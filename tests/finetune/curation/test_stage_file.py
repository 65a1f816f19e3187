"""The file of a stage has only complete lines, and each id once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.errors import ConfigurationError
from sprint_finetune.curation import Rejection
from sprint_finetune.curation.records import Dag
from sprint_finetune.curation.stage_file import StageFile

RESULTS = [
    Dag(id="é", parents=((), (1,))),
    Rejection(id="b", stage="dag", reason="cycle", detail="1, 2, 1\n…"),
    Dag(id="c", parents=()),
]


def write(path: Path) -> None:
    with StageFile(path, Dag) as file:
        for result in RESULTS:
            file.append(result.id, result)


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    write(tmp_path / "dags.jsonl")
    with StageFile(tmp_path / "dags.jsonl", Dag) as file:
        assert [file.get(name) for name in file.ids()] == RESULTS
        assert (len(file), "b" in file, "d" in file, file.get("d")) == (3, True, False, None)


@given(share=st.floats(0, 1))
def test_a_file_cut_anywhere_keeps_its_whole_lines(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "dags.jsonl"
    write(path)
    whole = path.read_bytes()
    cut = whole[: round(share * len(whole))]
    path.write_bytes(cut)
    with StageFile(path, Dag) as file:
        assert len(file) == cut.count(b"\n")
        for result in RESULTS:
            if result.id not in file:
                file.append(result.id, result)
        assert [file.get(result.id) for result in RESULTS] == RESULTS
    assert path.read_bytes() == whole


def test_a_file_of_something_else_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text('{"id": "a"}\nnotes\nmore\n')
    with pytest.raises(ConfigurationError, match=r"notes\.txt, line 2 is not a line of a stage"):
        StageFile(path, Dag)
    assert path.read_text() == '{"id": "a"}\nnotes\nmore\n'
    path.write_text('{"id": "a", "record": {"id": "a", "colour": 1}}\n')
    with StageFile(path, Dag) as file, pytest.raises(ConfigurationError, match="'a' in another form"):
        file.get("a")
