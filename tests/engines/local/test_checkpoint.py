import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sprint_agents.engines.local import LocalEngine
from sprint_agents.errors import ConfigurationError, EngineUnavailable, InvalidCheckpoint, MissingExtra
from sprint_agents.testing.contract import complete, request_of

from .test_engine import context_of

pytestmark = pytest.mark.local


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


def open_and_close(directory: Path) -> None:
    async def main() -> None:
        async with LocalEngine(directory, threads=1):
            pass

    asyncio.run(main())


def change_config(directory: Path, **values: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_its_name_is_the_manifest_s_or_the_folder_s(copy: Path) -> None:
    assert LocalEngine(copy).name == "local:model"
    assert LocalEngine(copy).manifest is None
    (copy / "sprint.json").write_text('{"model": "sprint-nano"}')
    engine = LocalEngine(str(copy))
    assert engine.name == "local:sprint-nano"
    assert engine.manifest is not None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "is not a directory"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config.json cannot be read: .*Copy it again"),
        (lambda folder: (folder / "config.json").write_text("[]"), "has no model_type"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), r"tokenizer.json cannot be read: .*Copy it"),
        (lambda folder: (folder / "sprint.json").write_text("{"), "sprint.json is not a valid manifest"),
    ],
)
def test_the_constructor_names_what_is_missing(copy: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(copy)
    with pytest.raises(InvalidCheckpoint, match=message):
        LocalEngine(copy)


def damaged_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def missing_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def weights_that_are_none(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged_weights, r"cannot be loaded: .*Copy"),
        (missing_weights, r"lacks 1 of the model's weights, such as model.layers.1.mlp.up_proj.weight"),
        (weights_that_are_none, "computes NaN"),
        (lambda folder: change_config(folder, model_type="no-such-model"), r"cannot be loaded: .*no-such-model"),
        (lambda folder: change_config(folder, layer_types=["full_attention", "linear_attention"]), "linear_attention"),
        (lambda folder: change_config(folder, intermediate_size=99), "cannot be loaded"),
    ],
)
def test_entering_says_what_is_wrong_with_the_weights(
    copy: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(copy)
    with pytest.raises(InvalidCheckpoint, match=message):
        open_and_close(copy)


def test_the_first_use_says_it_too_and_so_does_the_next(copy: Path) -> None:
    missing_weights(copy)

    async def main() -> None:
        engine = LocalEngine(copy, threads=1)
        for _ in range(2):
            with pytest.raises(InvalidCheckpoint, match="lacks"):
                await complete(engine, request_of(context_of(5)))
        await engine.aclose()
        with pytest.raises(EngineUnavailable, match="closed"):
            await complete(engine, request_of(context_of(5)))

    asyncio.run(main())


def test_a_missing_extra_is_named(copy: Path, monkeypatch) -> None:
    from sprint_agents.engines.local import engine

    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"sprint-agents\[local\]"):
        LocalEngine(copy)


@pytest.mark.parametrize("option", ["cache_tokens", "prefill_chunk", "max_running", "threads"])
def test_options_that_make_no_sense_are_refused(copy: Path, option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{option} is 0"):
        LocalEngine(copy, **{option: 0})


@pytest.mark.parametrize(
    ("options", "message"),
    [({"device": "no-such"}, "device 'no-such'"), ({"device": "meta:x"}, "meta"), ({"dtype": "float99"}, "float99")],
)
def test_a_device_or_precision_that_is_none_is_refused(copy: Path, options: dict[str, str], message: str) -> None:
    async def main() -> None:
        async with LocalEngine(copy, **options):
            pass

    with pytest.raises(ConfigurationError, match=message):
        asyncio.run(main())


def test_another_precision_works(copy: Path) -> None:
    async def main() -> None:
        async with LocalEngine(copy, dtype="bfloat16", threads=1, prefill_chunk=5) as engine:
            answers = await asyncio.gather(
                *(complete(engine, request_of(context_of(*range(20), last), max_tokens=30)) for last in range(4))
            )
            assert [len(answer.ids) for answer in answers] == [30] * 4

    asyncio.run(main())


def test_importing_it_loads_no_torch() -> None:
    code = (
        "import sys, sprint_agents.engines.local; assert not {'torch', 'transformers', 'tokenizers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
