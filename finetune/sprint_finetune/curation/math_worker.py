"""Compare answers with math-verify: ``python -m sprint_finetune.curation.math_worker SECONDS``.

The worker writes ``ready``. It then reads JSON lines ``{"reference": "…", "stated": "…"}`` and answers each with
``true`` or ``false``. The parent process kills it when the time for an answer is over. In case the parent itself was
killed, the worker also has its own alarm, and a memory limit.
"""

import json
import logging
import signal
import sys
from importlib import import_module
from typing import Any

_GRACE = 5.0
"""Seconds between the parent's timeout and the worker's own alarm."""
_MEMORY = 4 * 2**30
"""Limit of the address space, in bytes."""


def main() -> None:
    """Answer questions from stdin until it ends."""
    seconds = float(sys.argv[1])
    _limit_memory()
    verify: Any = import_module("math_verify")
    logging.disable()  # otherwise it warns about its missing timeouts
    print("ready", flush=True)
    for line in sys.stdin:
        _alarm(seconds + _GRACE)
        question = json.loads(line)
        print(json.dumps(_equal(verify, question["reference"], question["stated"])), flush=True)
        _alarm(0)


def _equal(verify: Any, reference: str, stated: str) -> bool:
    # math-verify's timeouts rely on Python signal handlers, which do not run inside C code. The alarm kills instead.
    options = {"parsing_timeout": None, "raise_on_error": False}
    gold = verify.parse(f"${reference.strip('$')}$", **options)
    return bool(verify.verify(gold, verify.parse(f"${stated.strip('$')}$", **options), timeout_seconds=None))


def _alarm(seconds: float) -> None:
    """Ask the system to end this process after so many seconds. 0 cancels the alarm."""
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
