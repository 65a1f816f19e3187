"""Interleaved planning and parallel execution for reasoning models."""

from .agents import Executor, Planner
from .budget import Budget, Limits
from .context import Context
from .engine import Capabilities, Chunk, Engine, Finish, Request, Sampling
from .errors import SprintError
from .hooks import Hooks
from .plan import Answer, Ask, Execution, FailurePolicy, Plan, Stage, Step, Subtask
from .policies import Planning, Policy
from .run import Run
from .run_context import RunContext
from .sprint import Sprint
from .state import State, Stops
from .steering import Steering
from .tools import Tool
from .trajectory import Trajectory
from .usage import Usage

__version__ = "0.1.0"

__all__ = [
    "Sprint",
    "Run",
    "RunContext",
    "Usage",
    "Planner",
    "Executor",
    "Tool",
    "Hooks",
    "Steering",
    "Budget",
    "Limits",
    "FailurePolicy",
    "Sampling",
    "Policy",
    "Planning",
    "Step",
    "Plan",
    "Subtask",
    "Ask",
    "Answer",
    "Stage",
    "Execution",
    "Trajectory",
    "Engine",
    "Request",
    "Chunk",
    "Finish",
    "Capabilities",
    "Context",
    "State",
    "Stops",
    "SprintError",
    "__version__",
]
