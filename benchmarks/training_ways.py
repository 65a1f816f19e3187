"""Train the same small model on the same trajectories in three ways, and compare what each role learned.

    python benchmarks/training_ways.py --start finetune/models/sprint-nano-rft [--family arithmetic] [--tokens 500000]

- causal: the whole trajectory as one text, learned except for the question (as in the paper)
- calls: each call of a run as a separate sample
- trie: all calls of a trajectory in one trie (docs/training.md)

``--start`` is the checkpoint to start from, as the paper starts from a model that reasons in one chain; its row shows
it before the training. Without it the model is new and small (``--hidden``, ``--layers``) and needs millions of
tokens.

Each way reads ``--tokens`` tokens, without padding, of the same stream of problems; a way that needs fewer tokens per
problem reads more problems. Then the model predicts each call of ``--problems`` held-out problems from its true
context, as in a run. "Right" is the share of completions whose every token is the likeliest, so greedy decoding writes
them. For executors i.2 and later, causal training differs from a run: it showed them the executions of their siblings.
Figures are means over ``--seeds``.
"""

import argparse
import itertools
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import get_args

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from sprint_finetune.nano import arithmetic, multiplication
from sprint_finetune.nano.countdown import problems, solution_of
from sprint_finetune.nano.pretrain import make_optimisers, nano_config
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.nano.traces import Solution, executors, planner
from sprint_finetune.training.calls import Call
from sprint_finetune.training.collation import Collator
from sprint_finetune.training.corpus import flatten_calls
from sprint_finetune.training.encoding import encode_calls
from sprint_finetune.training.loss import edge_loss
from sprint_finetune.training.settings import Way
from sprint_finetune.training.trie import Flattened

TOKENS_PER_STEP = 6_000
TOKENS_PER_BATCH = 8_000
PEAK = 1e-3
GROUPS = ("planner", "executors i.1", "executors i.2+")
_HEADER = re.compile(r"<execution_\d+\.(\d+)>")


@dataclass(slots=True)
class Score:
    """The predictions of one role, over all its completions."""

    nats: float = 0.0
    tokens: int = 0
    right: int = 0
    completions: int = 0


def draw(family: str, seed: str, *, held_out: bool = False) -> Iterator[Solution]:
    """Draw problems of a family, forever."""
    split = "held_out" if held_out else "train"
    if family == "countdown":
        yield from (solution_of(*problem) for problem in problems(seed=seed, split=split, counts=(3,)))
    else:
        yield from {"arithmetic": arithmetic, "multiplication": multiplication}[family].problems(seed=seed, split=split)


def calls_of(work: Solution) -> list[Call]:
    """Write all calls of a run that plans."""
    return [planner(work), *executors(work)]


def steps(
    stream: Iterator[Solution], tokenizer: PreTrainedTokenizerBase, way: Way
) -> Iterator[tuple[list[Flattened], int]]:
    """Gather the rows of each optimiser step, with the number of their problems."""
    rows: list[Flattened] = []
    count = 0
    for work in stream:
        rows += flatten_calls(calls_of(work), tokenizer, way=way)
        count += 1
        if sum(map(len, rows)) >= TOKENS_PER_STEP:
            yield rows, count
            rows, count = [], 0


def batches(rows: Sequence[Flattened]) -> Iterator[list[Flattened]]:
    """Put rows of similar length together, since padding is wasted work."""
    waiting = sorted(rows, key=len)
    while waiting:
        batch = [waiting.pop()]
        while waiting and (len(batch) + 1) * len(batch[0]) <= TOKENS_PER_BATCH:
            batch.append(waiting.pop())
        yield batch


def first_model(tokenizer: PreTrainedTokenizerBase, arguments: argparse.Namespace) -> LlamaForCausalLM:
    """Load the model that every way starts from, or make one."""
    if arguments.start:
        return LlamaForCausalLM.from_pretrained(arguments.start)
    return LlamaForCausalLM(nano_config(len(tokenizer), hidden=arguments.hidden, layers=arguments.layers))


def train(
    model: LlamaForCausalLM,
    way: Way,
    tokenizer: PreTrainedTokenizerBase,
    arguments: argparse.Namespace,
    seed: int,
) -> int:
    """Train the model, and return how many problems it saw."""
    optimisers = make_optimisers(model, peak=PEAK)
    collate = Collator(padding=tokenizer.pad_token_id)
    read = seen = 0
    for rows, count in steps(draw(arguments.family, f"ways:{seed}"), tokenizer, way):
        done = read / arguments.tokens
        for group in itertools.chain.from_iterable(optimiser.param_groups for optimiser in optimisers):
            group["lr"] = PEAK * min(1.0, 20 * done + 0.01, 2 * (1 - done))
        learned = sum(len(row.targets) for row in rows)
        for batch in batches(rows):
            (edge_loss(model, collate(batch), config=model.config) / learned).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        read += sum(map(len, rows))
        seen += count
        if read >= arguments.tokens:
            break
    return seen


@torch.no_grad()
def evaluate(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, works: Sequence[Solution]
) -> dict[str, Score]:
    """Put every call to the model in the context of a run."""
    scores = {group: Score() for group in GROUPS}
    for work in works:
        calls = calls_of(work)
        for call, path in zip(calls, encode_calls(calls, tokenizer), strict=True):
            logits = model(input_ids=torch.tensor([path.ids])).logits[0, :-1]
            targets = torch.tensor(path.ids[1:])
            losses = functional.cross_entropy(logits, targets, reduction="none")
            hits = logits.argmax(-1) == targets
            score = scores[group_of(call)]
            for start, end in completions(path.learned[1:]):
                score.nats += float(losses[start:end].sum())
                score.tokens += end - start
                score.right += bool(hits[start:end].all())
                score.completions += 1
    return scores


def group_of(call: Call) -> str:
    """Say which row of the table a call belongs to."""
    if call.role == "planner":
        return GROUPS[0]
    header = _HEADER.search(call.pieces[-2].text)
    assert header is not None
    return GROUPS[1] if header[1] == "1" else GROUPS[2]


def completions(learned: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Return where each completion begins and ends."""
    place = 0
    for written, run in itertools.groupby(learned, key=bool):
        length = len([*run])
        if written:
            yield place, place + length
        place += length


def line(label: str, seen: Sequence[int], seconds: Sequence[float], found: Sequence[dict[str, Score]]) -> str:
    """Write one row of the table: means over the seeds."""
    cells = ""
    for group in GROUPS:
        scores = [scores[group] for scores in found]
        right = fmean(score.right / score.completions for score in scores)
        nats = fmean(score.nats / score.tokens for score in scores)
        cells += f"{right:>22.1%}{nats:>12.3f}"
    return f"{label:<8}{fmean(seen):>9.0f}{fmean(seconds):>9.0f}{cells}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, help="a checkpoint with sprint-nano's tokenizer")
    parser.add_argument("--family", choices=["countdown", "arithmetic", "multiplication"], default="arithmetic")
    parser.add_argument("--tokens", type=int, default=500_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tokenizer = build_tokenizer()
    works = [*itertools.islice(draw(arguments.family, "ways", held_out=True), arguments.problems)]
    print(f"{arguments.family}, {arguments.tokens:,} tokens, {arguments.seeds} seeds, {len(works)} held-out problems\n")
    cells = "".join(f"{group + ': right':>22}{'nats/token':>12}" for group in GROUPS)
    print(f"{'way':<8}{'problems':>9}{'seconds':>9}{cells}")
    print(line("before", [0], [0.0], [evaluate(first_model(tokenizer, arguments), tokenizer, works)]), flush=True)
    for way in get_args(Way):
        seen: list[int] = []
        seconds: list[float] = []
        found: list[dict[str, Score]] = []
        for seed in range(arguments.seeds):
            torch.manual_seed(seed)
            model = first_model(tokenizer, arguments)
            started = time.perf_counter()
            seen.append(train(model, way, tokenizer, arguments, seed))
            seconds.append(time.perf_counter() - started)
            found.append(evaluate(model, tokenizer, works))
        print(line(way, seen, seconds, found), flush=True)


if __name__ == "__main__":
    main()
