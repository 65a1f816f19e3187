"""``python -m sprint_finetune.cli`` is the same as ``sprint-finetune``."""

from . import main

main()
