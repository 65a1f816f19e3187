"""Tasks of reasoning-gym (arXiv 2505.24760): a hundred generators of problems, each with a program that scores answers.

A yardstick that is not ours. It needs the extra ``gym``.
"""

from .gym import Gym, GymTask

__all__ = ["Gym", "GymTask"]
