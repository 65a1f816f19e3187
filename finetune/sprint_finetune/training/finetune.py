"""Fine-tune any causal model of transformers on curated trajectories, on one device or many. A killed run resumes.

    python -m sprint_finetune.training.finetune recipe.toml --data train.jsonl --output runs/mine
    accelerate launch --num_processes 8 -m sprint_finetune.training.finetune recipe.toml …

The training loop is transformers' ``Trainer``. This module supplies the data, one row of flattened tries at a time,
and the loss over their edges. The order of the rows depends only on the seed and the epoch, so a resumed run continues
with the next row.
"""

# pyright: reportUnknownMemberType=false
# The annotations of torch, transformers and peft are partial.

import argparse
import hashlib
import json
import shutil
import tomllib
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments, set_seed

from sprint_agents.dialects.tags.format import Tags, load_tags
from sprint_agents.errors import ConfigurationError, MissingExtra

from .checkpoints import load_model, load_tokenizer, newest_checkpoint, open_folder, write_checkpoint
from .collation import Collator, PackedRows
from .corpus import LengthLimits, build_tries, read_samples
from .devices import check_devices, check_packages
from .masks import BLOCK
from .settings import Lora, Settings
from .solving import SolvingCallback
from .trainer import EdgeTrainer, TrainingLog
from .vocabulary import extend_checkpoint, missing_tags, tag_ids

_MAY_CHANGE = {"output", "save_every", "keep", "log_every", "logit_tokens", "report_to", "solve"}
"""Settings that a resumed run may change, because they do not affect what is learned."""


def train(settings: Settings) -> Path:
    """Train, resuming from the newest checkpoint in ``settings.output`` if there is one. Return the model's directory.

    Raises:
        ConfigurationError: the settings do not fit the model, the data or an earlier run.
        MissingExtra: accelerate, or for adapters peft, is not installed.
    """
    check_packages(settings)
    arguments = _arguments(settings)
    check_devices(settings, arguments)
    processes = cast(int, arguments.world_size)
    base = _base(settings)
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            _begin(settings, base, processes=processes)
    tokenizer, model = _load(settings, base)
    rows = _rows(settings, tokenizer, model, together=processes * settings.rows_per_device)
    log = TrainingLog(settings.output / "log.jsonl")
    trainer = EdgeTrainer(
        logit_tokens=settings.logit_tokens,
        liger=settings.loss == "liger",
        model=model,
        args=arguments,
        data_collator=_collator(settings, tokenizer),
        train_dataset=rows(settings.data),
        eval_dataset=rows(settings.held_out) if settings.held_out else None,
        processing_class=tokenizer,
        callbacks=[log],
    )
    export = partial(
        write_checkpoint,
        manifest=settings.manifest,
        dtype=torch.bfloat16 if settings.bf16 else torch.float32,
        base=base if settings.lora else None,
    )
    if settings.solve:
        solving = SolvingCallback(
            read_samples(settings.solve),
            export=export,
            log=trainer.log,
            is_logged=lambda step: log.has("solved", step=step),
        )
        trainer.add_callback(solving)
    newest = newest_checkpoint(settings.output)
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    return _finish(settings, trainer, export)


def _arguments(settings: Settings) -> TrainingArguments:
    on_cpu = not torch.accelerator.is_available()
    return TrainingArguments(
        output_dir=str(settings.output),
        num_train_epochs=settings.epochs,
        max_steps=settings.steps or -1,
        per_device_train_batch_size=settings.rows_per_device,
        per_device_eval_batch_size=settings.rows_per_device,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warm_up,  # a value below 1 is a share of the steps
        lr_scheduler_type=settings.schedule,
        max_grad_norm=settings.largest_gradient,
        bf16=settings.bf16,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        seed=settings.seed,
        data_seed=settings.seed,
        save_steps=settings.save_every,
        save_total_limit=settings.keep,
        logging_steps=settings.log_every,
        eval_strategy="epoch" if settings.held_out else "no",
        prediction_loss_only=True,
        label_names=["targets"],
        remove_unused_columns=False,
        report_to=list(settings.report_to) or "none",
        run_name=settings.manifest.model,
        disable_tqdm=True,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        deepspeed=str(settings.deepspeed) if settings.deepspeed else None,
        ddp_find_unused_parameters=False,  # every batch uses all parameters
        fsdp=cast(Any, True) if settings.fsdp else None,
        fsdp_config=str(settings.fsdp) if settings.fsdp else None,
    )


def _begin(settings: Settings, base: str, *, processes: int) -> None:
    """Prepare the directory of the run, or verify that the run in it may be resumed.

    Raises:
        ConfigurationError: the run started with other data or settings, so resuming would lose or repeat rows.
    """
    open_folder(settings.output)
    record: dict[str, Any] = settings.model_dump(mode="json", exclude=_MAY_CHANGE)
    digest = hashlib.sha256()
    for path in settings.data:
        digest.update(path.read_bytes() if path.is_file() else b"")
    record |= {"processes": processes, "data_sha256": digest.hexdigest()}
    path = settings.output / "run.json"
    if newest_checkpoint(settings.output) is not None:
        if path.exists() and (changed := _changed(json.loads(path.read_text(encoding="utf-8")), record)):
            raise ConfigurationError(
                f"{settings.output} holds a run that started with other settings: {changed}. "
                "Resume it with the same settings, or choose another output"
            )
        return
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if base != settings.model:
        set_seed(settings.seed)
        shutil.rmtree(base, ignore_errors=True)
        extend_checkpoint(settings.model, Path(base), from_scratch=settings.from_scratch, tags=_tags(settings))


def _changed(before: dict[str, Any], now: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} was {before[name]!r} and is now {now[name]!r}"
        for name in sorted(before.keys() & now.keys())
        if before[name] != now[name]
    )


def _base(settings: Settings) -> str:
    """Return the checkpoint to start from: the model itself, or the model with added tags.

    Raises:
        ConfigurationError: tags are missing and ``settings.tags`` requires them.
    """
    missing = missing_tags(load_tokenizer(settings.model), tags=_tags(settings))
    if missing and settings.tags == "require":
        raise ConfigurationError(
            f"the tokenizer of {settings.model} splits {len(missing)} tags, such as {missing[0]!r}: "
            'set tags = "add" to add them to the vocabulary, or tags = "text" to train them as several tokens'
        )
    return str(settings.output / "base") if missing and settings.tags == "add" else settings.model


def _tags(settings: Settings) -> Tags:
    return load_tags(settings.manifest.dialect_version)


def _load(settings: Settings, base: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    set_seed(settings.seed)
    tokenizer = load_tokenizer(base)
    model = load_model(
        base,
        from_scratch=settings.from_scratch and base == settings.model,
        dtype=getattr(torch, settings.weights),
        attention=_attention(settings),
    )
    if settings.lora is not None:
        new = tag_ids(tokenizer, tags=_tags(settings)) if base != settings.model else []
        model = _with_adapters(model, settings.lora, new)
    return tokenizer, model


def _attention(settings: Settings) -> str:
    if settings.attention != "auto":
        return settings.attention
    return "flex_attention" if torch.cuda.is_available() and find_spec("triton") else "sdpa"


def _with_adapters(model: PreTrainedModel, lora: Lora, new: list[int]) -> PreTrainedModel:
    """Freeze the model except for adapters and the rows of ``new`` tokens."""
    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError:
        raise MissingExtra("lora", "peft") from None
    layers: list[Any] = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        layers.append(model.get_output_embeddings())
    modules: list[tuple[str, Any]] = [*model.named_modules()]
    rows = {name.rpartition(".")[2]: new for name, module in modules if any(module is layer for layer in layers)}
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        trainable_token_indices=rows if new else None,
    )
    adapted: Any = get_peft_model(model, config)
    return adapted


def _collator(settings: Settings, tokenizer: PreTrainedTokenizerBase) -> Collator:
    padding: Any = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return Collator(padding=padding or 0, multiple=BLOCK if _attention(settings) == "flex_attention" else 1)


def _rows(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, together: int
) -> Callable[[tuple[Path, ...]], PackedRows]:
    """Return a function that makes rows from files. The number of rows is a multiple of ``together``.

    Raises:
        ConfigurationError: ``settings.context`` exceeds the model's maximum.
    """
    longest: int = model.config.max_position_embeddings
    if settings.context is not None and settings.context > longest:
        raise ConfigurationError(f"context = {settings.context}, but {settings.model} has only {longest} positions")
    limits = LengthLimits(context=settings.context or longest, row_tokens=settings.row_tokens)

    def make(paths: tuple[Path, ...]) -> PackedRows:
        made = build_tries(read_samples(paths), tokenizer, settings, limits=limits)
        capacity = settings.row_tokens or max(limits.context, *(len(trie) for trie in made))
        return PackedRows(made, capacity=capacity if settings.pack else None, multiple=together)

    return make


def _finish(settings: Settings, trainer: EdgeTrainer, export: Callable[[Path, Path], object]) -> Path:
    """Write the model of the last checkpoint in the form that engines open."""
    target = settings.output / "checkpoint"
    trainer.accelerator.wait_for_everyone()
    newest = newest_checkpoint(settings.output)
    assert newest is not None, "the trainer writes a checkpoint when it ends"
    if trainer.is_world_process_zero():
        export(newest, target)
    trainer.accelerator.wait_for_everyone()
    return target


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path, help="a TOML file, such as one in finetune/recipes")
    parser.add_argument("--data", type=Path, nargs="+", help="JSONL files of curated samples")
    parser.add_argument("--output", type=Path, help="the directory of the run")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting, as in TOML"
    )
    options = parser.parse_args()
    from sprint_agents.cli.logs import configure_logs

    configure_logs()
    changes: dict[str, object] = {}
    for change in options.set:
        try:
            changes |= tomllib.loads(change)
        except tomllib.TOMLDecodeError as error:
            parser.error(f"--set {change}: write NAME=VALUE as in TOML, with strings in quotes: {error}")
    for name in ("data", "output"):
        if (value := getattr(options, name)) is not None:
            changes[name] = value
    try:
        print(train(Settings.load(options.settings, changes=changes)))
    except ConfigurationError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
