"""Compare answers as mathematics: a program for ``Subprocesses``.

A question is ``{"reference": "…", "stated": "…"}``, its answer ``true``, ``false`` or ``null``.
"""

import logging
from importlib import import_module

from sprint_agents.subprocesses import answer_questions

from .equality import equal


def main() -> None:
    """Answer the questions."""
    import_module("latex2sympy2_extended.latex2sympy2")  # the time for imports is not that of the first question
    logging.disable()
    answer_questions(lambda question: equal(question["reference"], question["stated"]))


if __name__ == "__main__":
    main()
