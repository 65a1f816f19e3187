"""Compare answers with math-verify: a program for ``Subprocesses``.

A question is ``{"reference": "…", "stated": "…"}``, its answer ``true`` or ``false``.
"""

import logging
from importlib import import_module
from typing import Any

from sprint_agents.subprocesses import answer_questions


def main() -> None:
    """Answer the questions."""
    verify: Any = import_module("math_verify")
    logging.disable()  # otherwise it warns about its missing timeouts
    answer_questions(lambda question: _equal(verify, question["reference"], question["stated"]))


def _equal(verify: Any, reference: str, stated: str) -> bool:
    # math-verify's timeouts rely on Python signal handlers, which do not run inside C code. The caller kills instead.
    options = {"parsing_timeout": None, "raise_on_error": False}
    gold = verify.parse(f"${reference.strip('$')}$", **options)
    return bool(verify.verify(gold, verify.parse(f"${stated.strip('$')}$", **options), timeout_seconds=None))


if __name__ == "__main__":
    main()
