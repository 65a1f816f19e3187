"""Training on a device: flex attention, memory against the plan, and transformers' ``Trainer``."""

import itertools
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2ForCausalLM

from sprint_agents.manifest import Manifest
from sprint_finetune.nano import multiplication
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.nano.traces import executors, planner
from sprint_finetune.training import masks
from sprint_finetune.training.collation import Batch, Collator, PackedRows
from sprint_finetune.training.corpus import flatten_calls
from sprint_finetune.training.loss import attention_arguments, edge_loss, plain_head
from sprint_finetune.training.memory import RESERVED, MemoryModel
from sprint_finetune.training.settings import Settings
from sprint_finetune.training.trie import Flattened

from .options import Figures, Options
from .shapes import HALF_BILLION, TINY, write_random


def tries(count: int) -> list[Flattened]:
    """Return the calls of ``count`` multiplications, each flattened to one trie."""
    tokenizer = build_tokenizer()
    solved = itertools.islice(multiplication.problems(seed=0, split="train"), count)
    return [row for work in solved for row in flatten_calls([planner(work), *executors(work)], tokenizer, way="trie")]


def rows(tokens: int, count: int, device: str) -> Iterator[Batch]:
    """Pack tries into batches of one row of at most ``tokens`` tokens each."""
    packed = PackedRows(tries(max(8, tokens * count // 600)), capacity=tokens)
    collate = Collator(multiple=masks.BLOCK)
    for index in range(count):
        yield {name: tensor.to(device) for name, tensor in collate([packed[index % len(packed)]]).items()}


def flex(options: Options) -> Figures:
    """Compare flex attention with SDPA on tries: logits, and on a GPU gradients, which flex has nowhere else."""
    torch.manual_seed(0)
    shape = options[{"hidden_size": 512, "num_hidden_layers": 4}, {"hidden_size": 64, "num_hidden_layers": 2}]
    config = LlamaConfig(
        vocab_size=2000,
        intermediate_size=512,
        num_attention_heads=shape["hidden_size"] // 32,
        num_key_value_heads=2,
        attn_implementation="sdpa",
        **shape,
    )
    model = LlamaForCausalLM(config).to(options.device)  # pyright: ignore[reportArgumentType]
    batch = next(rows(options[4096, 2048], 1, options.device))
    logits: dict[str, torch.Tensor] = {}
    gradients: dict[str, torch.Tensor] = {}
    for attention in ("sdpa", "flex_attention"):
        model.set_attn_implementation(attention)
        # Compiling takes half a minute on a CPU; a dry run computes the same mask by plain operations.
        stance: Any = torch.compiler.set_stance("force_eager") if options.dry_run else nullcontext()
        with stance:
            arguments = attention_arguments(batch, model.config)
            with torch.no_grad():
                logits[attention] = model(input_ids=batch["input_ids"], **arguments).logits
            if options.on_cuda:
                model.zero_grad()
                edge_loss(model, batch, config=model.config, head=plain_head(model, model)).backward()
                learned = (parameter.grad for parameter in model.parameters() if parameter.grad is not None)
                gradients[attention] = torch.cat([gradient.flatten() for gradient in learned])
    found: Figures = {"tokens": batch["input_ids"].shape[1], **_differences("logits", logits)}
    return found | (_differences("gradients", gradients) if gradients else {})


def _differences(name: str, tensors: dict[str, torch.Tensor]) -> Figures:
    first, second = tensors["sdpa"], tensors["flex_attention"]
    return {
        f"{name}_differ_by": (first - second).abs().max().item(),
        f"largest_{name}": first.abs().max().item(),
        f"{name}_close": torch.allclose(first, second, atol=1e-3 * first.abs().max().item(), rtol=1e-3),
    }


def memory(options: Options) -> Figures:
    """Take 20 steps of full fine-tuning in bfloat16 with each attention, and compare the memory with the plan."""
    folder = write_random(options.folder / "random", options[HALF_BILLION, TINY], dtype=torch.bfloat16)
    length = options[4096, 2048]
    manifest = Manifest(model="random", temperature=0)
    settings = Settings(
        model=str(folder), data=(folder,), output=folder, manifest=manifest, bf16=True, row_tokens=length
    )
    need = MemoryModel(settings).need()
    found: Figures = {"planned_gib": (need.total - RESERVED) / 2**30, "row_tokens": length}
    for attention in options[("sdpa", "flex_attention"), ("sdpa",)]:
        try:
            found[attention] = _steps(options, settings, attention)
        except Exception as error:  # flex attention needs a compiler; the other must still be measured
            found[attention] = {"failed": f"{type(error).__name__}: {str(error)[:500]}"}
    return found


def _steps(options: Options, settings: Settings, attention: str) -> Figures:
    model = Qwen2ForCausalLM.from_pretrained(settings.model, dtype=torch.float32, attn_implementation=attention)
    model = model.to(options.device).train()  # pyright: ignore[reportArgumentType]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)
    head = plain_head(model, model)
    if options.on_cuda:
        torch.cuda.reset_peak_memory_stats(options.device)
    losses: list[float] = []
    seconds: list[float] = []
    for batch in rows(settings.row_tokens or 0, options[20, 2], options.device):
        started = options.clock()
        with torch.autocast(torch.device(options.device).type, dtype=torch.bfloat16):
            loss = edge_loss(model, batch, config=model.config, head=head, chunk=settings.logit_tokens)
        (loss / batch["weights"].sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append((loss / batch["weights"].sum()).item())
        seconds.append(options.clock() - started)
    peaks = (
        {
            "allocated_gib": torch.cuda.max_memory_allocated(options.device) / 2**30,
            "reserved_gib": torch.cuda.max_memory_reserved(options.device) / 2**30,
        }
        if options.on_cuda
        else {}
    )
    return {
        "chunked_loss": head is not None,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "ms": 1000 * median(seconds),
        **peaks,
    }


def trainer(options: Options) -> Figures:
    """Fine-tune a tiny model with ``sprint_finetune.training.finetune``, in bfloat16, and resume it."""
    if find_spec("accelerate") is None:
        return {"left_out": "transformers' Trainer needs accelerate: pip install accelerate"}
    from sprint_finetune.training.finetune import train

    folder = write_random(options.folder / "tiny", TINY, dtype=torch.float32)
    data, output = folder / "data.jsonl", options.folder / "trained"
    shutil.rmtree(output, ignore_errors=True)
    with data.open("w") as file:
        for number, work in enumerate(itertools.islice(multiplication.problems(seed=1, split="train"), 8)):
            text = "".join(piece.text for piece in planner(work).pieces)
            file.write(json.dumps({"id": str(number), "problem": work.task.prompt, "text": text}) + "\n")
    settings = Settings(
        model=str(folder),
        data=(data,),
        output=output,
        manifest=Manifest(model="tiny", temperature=0),
        bf16=True,
        pack=False,
        learning_rate=1e-3,
        save_every=2,
        log_every=1,
        steps=options[8, 2],
        attention="auto" if options.on_cuda else "sdpa",
    )
    started = time.perf_counter()
    train(settings)
    logged = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in logged if "loss" in line]
    return {"losses": losses, "seconds": time.perf_counter() - started}
