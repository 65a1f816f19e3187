"""The split into training and evaluation: by problem, so that no problem is in both, whatever the order or seed."""

import hashlib

from .records import Split


def split_of(problem: str, *, eval_share: float) -> Split:
    r"""Return the split that a problem belongs to, by a hash of its words; a share of ``eval_share`` is for evaluation.

    >>> split_of("What is 6*7?", eval_share=0.0), split_of(" what is\n6*7? ", eval_share=1.0)
    ('train', 'eval')
    """
    words = " ".join(problem.casefold().split())
    place = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") / 2**64
    return "eval" if place < eval_share else "train"
