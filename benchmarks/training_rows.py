"""What training loses to padding and waiting, and how large its masks are, without a model.

    python benchmarks/training_rows.py

A step is over when the process with the longest batch is ready, and a batch is as long as its longest row. ``lost`` is
the share of all tokens that are padding or waited for. Lengths are drawn: 1,700 samples, log-normal, median 4,000
tokens, at most 16,384. ``before`` packs each row as full as possible and shuffles rows; ``now`` packs rows equally full
and computes rows of similar length at the same time.
"""

import argparse
import random
from collections.abc import Sequence
from statistics import mean

import torch

from sprint_finetune.training.collation import BalancedOrder, balanced_bins, bins
from sprint_finetune.training.masks import ancestor_blocks, ancestor_mask

SAMPLES, LONGEST = 1_700, 16_384
LARGEST_DENSE = 8_192


def drawn_lengths(seed: int) -> list[int]:
    """Draw the lengths of a data set."""
    drawn = random.Random(seed)
    return [min(LONGEST, max(300, int(drawn.lognormvariate(8.3, 0.6)))) for _ in range(SAMPLES)]


def filled(lengths: Sequence[int], members: Sequence[Sequence[int]], together: int) -> list[int]:
    """Return the tokens of each row, with empty rows of one token up to a multiple of ``together``."""
    rows = [sum(lengths[member] for member in row) for row in members]
    return rows + [1] * (-len(rows) % together)


def lost(rows: Sequence[int], order: Sequence[int], together: int) -> float:
    """Return the share of tokens that are padding or waited for."""
    groups = [[rows[row] for row in order[start : start + together]] for start in range(0, len(order), together)]
    return 1 - sum(rows) / sum(max(group) * len(group) for group in groups)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    print(f"lost to padding and waiting, mean of {len(seeds)} seeds\n")
    print("| row_tokens | processes x rows | before | now |\n|---|---|---:|---:|")
    for capacity in (None, 16_384, 32_768):
        for processes, each in ((8, 1), (8, 2), (2, 4)):
            together, before, now = processes * each, list[float](), list[float]()
            for seed in seeds:
                lengths = drawn_lengths(seed)
                single = [[index] for index in range(len(lengths))]
                old = filled(lengths, single if capacity is None else bins(lengths, capacity), together)
                members = single if capacity is None else balanced_bins(lengths, capacity, multiple=together)
                new = filled(lengths, members, together)
                before.append(lost(old, random.Random(seed).sample(range(len(old)), len(old)), together))
                now.append(lost(new, list(BalancedOrder(new, together=together, seed=seed)), together))
            packed = "one sample a row" if capacity is None else f"{capacity:,}"
            print(f"| {packed} | {processes} x {each} | {100 * mean(before):.1f} % | {100 * mean(now):.1f} % |")
    print("\n| tokens | block mask | mask of tokens by tokens |\n|---:|---:|---:|")
    for tokens in (1_024, 8_192, 32_768, 131_072):
        ends, positions = torch.full((1, tokens), tokens), torch.arange(tokens)[None]
        blocks = ancestor_blocks(ends, positions=positions)
        size = sum(part.nbytes for part in blocks.as_tuple() if isinstance(part, torch.Tensor))
        dense = ancestor_mask(ends, positions=positions).nbytes if tokens <= LARGEST_DENSE else tokens**2
        print(f"| {tokens:,} | {size / 2**10:,.0f} KiB | {dense / 2**20:,.0f} MiB |")


if __name__ == "__main__":
    main()
