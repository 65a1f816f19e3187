"""Recorded runs as training data for other libraries: verifiers and prime-rl, and Hugging Face data sets.

``sprint_agents.rollouts`` records them. Each branch of a run is one training sample, in which a token counts if the
model generated it in that branch.
"""

from .dataset import to_dataset
from .files import read_rollouts
from .verifiers import dump_episode, write_episodes

__all__ = ["read_rollouts", "dump_episode", "write_episodes", "to_dataset"]
