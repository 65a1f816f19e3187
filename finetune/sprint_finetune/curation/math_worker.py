"""Compare answers by math-verify, one JSON question a line: ``python -m sprint_finetune.curation.math_worker SECONDS``.

Writes ``ready``, then reads ``{"reference": "…", "stated": "…"}`` and writes ``true`` or ``false``. Whoever asks kills
it when its time is over; in case the asker was killed itself, it also dies of its own alarm, and by a limit of memory.
"""

import json
import logging
import signal
import sys
from importlib import import_module
from typing import Any

_GRACE = 5.0
"""Seconds beyond the asker's patience."""
_MEMORY = 4 * 2**30
"""Bytes of address space."""


def main() -> None:
    """Answer questions from stdin until it ends."""
    seconds = float(sys.argv[1])
    _limit_memory()
    verify: Any = import_module("math_verify")
    logging.disable()  # it warns that it has no timeouts of its own
    print("ready", flush=True)
    for line in sys.stdin:
        _alarm(seconds + _GRACE)
        question = json.loads(line)
        print(json.dumps(_equal(verify, question["reference"], question["stated"])), flush=True)
        _alarm(0)


def _equal(verify: Any, reference: str, stated: str) -> bool:
    # The timeouts of math-verify are signals, which do not stop what hangs below Python; ours is the alarm.
    options = {"parsing_timeout": None, "raise_on_error": False}
    gold = verify.parse(f"${reference.strip('$')}$", **options)
    return bool(verify.verify(gold, verify.parse(f"${stated.strip('$')}$", **options), timeout_seconds=None))


def _alarm(seconds: float) -> None:
    """Let the system end this process after so long; 0 calls it off."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


if __name__ == "__main__":
    main()
