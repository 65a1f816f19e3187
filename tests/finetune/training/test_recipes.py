"""The recipes: their settings are valid, and the problems of smollm2 are what its notes say."""

import asyncio
import importlib.util
import itertools
import json
from pathlib import Path

import pytest

from sprint_agents.trajectory import Trajectory
from sprint_finetune.curation import Criteria, CurationSettings, RuleExtractor, Style, curate, from_jsonl
from sprint_finetune.training.calls import calls_of
from sprint_finetune.training.settings import Settings

RECIPES = Path(__file__).parents[3] / "finetune" / "recipes"


@pytest.fixture(scope="module")
def smollm2():
    spec = importlib.util.spec_from_file_location("smollm2", RECIPES / "smollm2.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("recipe", ["smollm2", "sprint_7b"])
def test_settings_of_a_recipe_are_valid(recipe):
    settings = Settings.load(RECIPES / f"{recipe}.toml", changes={"data": ["train.jsonl"], "output": "runs/test"})
    assert settings.way == "trie"
    assert settings.deepspeed is None or settings.deepspeed.is_file()


def test_settings_of_the_tutorial_are_valid_and_those_of_its_page():
    root = RECIPES.parents[1]
    path = root / "examples" / "tutorial.toml"
    assert Settings.load(path).manifest.model == "tutorial"
    assert f"```toml\n{path.read_text()}```" in (root / "docs" / "tutorial.md").read_text()


def test_held_out_problems_are_never_trained_on(smollm2):
    trained, held_out = (
        {receipt.problem for receipt in itertools.islice(smollm2.receipts(seed=0, held_out=split), 500)}
        for split in (False, True)
    )
    assert len(trained) == len(held_out) == 500
    assert not trained & held_out


def test_curation_hands_out_every_item(smollm2, tmp_path):
    receipts = {r.problem: r for r in itertools.islice(smollm2.receipts(seed=1, held_out=False), 20)}
    chains = tmp_path / "traces.jsonl"
    chains.write_text("".join(json.dumps(receipt.chain()) + "\n" for receipt in receipts.values()))
    settings = CurationSettings(
        criteria=Criteria(share=1), style=Style(separators=False, basis=False, breaks=False), eval_share=0
    )
    curated = curate(from_jsonl(chains), tmp_path / "curated", extractor=RuleExtractor(), settings=settings)
    report = asyncio.run(curated)
    assert report.samples > 15
    for line in (tmp_path / "curated" / "train.jsonl").read_text().splitlines():
        sample = json.loads(line)
        receipt = receipts[sample["problem"]]
        (stage,) = Trajectory.from_text(sample["text"]).stages
        items = [f"{name} = {item}" for name, item in zip(smollm2.NAMES, receipt.items, strict=False)]
        assert [subtask.prompt for subtask in stage.subtasks] == items
        assert len(calls_of(sample["text"], problem=sample["problem"])) == 1 + len(items)
        assert sum(item.cost for item in receipt.items) == int(sample["answer"])
