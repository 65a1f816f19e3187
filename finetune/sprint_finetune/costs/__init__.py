"""What a run costs on an engine, computed from its lengths: the same figure on every machine and in every process."""

from .model import NANO_ON_CPU, CostModel
from .shapes import BranchShape, RunShape, StageShape

__all__ = ["CostModel", "NANO_ON_CPU", "RunShape", "StageShape", "BranchShape"]
