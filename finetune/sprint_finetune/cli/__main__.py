"""``python -m sprint_finetune.cli``, the same as ``sprint-finetune``."""

from . import main

main()
