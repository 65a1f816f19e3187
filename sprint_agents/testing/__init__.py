"""Test agents and policies without a model: a scripted engine, and an event loop that skips simulated time.

``sprint_agents.testing.contract`` has tests that check your own engine.

>>> from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual
>>> engine = FakeEngine(["first", Reply("second", fault=Fault.drop(after=1))], latency=Latency(token=0.02))
>>> engine.account().started
0
"""

from .account import Account, RequestRecord
from .clock import VirtualTimeLoop, run_virtual
from .engine import FakeEngine, Latency
from .recording import RecordedCompletion, RecordedEngine, Recording, RecordingEngine
from .replies import Fault, Prompt, Replies, Reply

__all__ = [
    "FakeEngine",
    "Latency",
    "RecordedEngine",
    "RecordingEngine",
    "Recording",
    "RecordedCompletion",
    "Reply",
    "Replies",
    "Fault",
    "Prompt",
    "Account",
    "RequestRecord",
    "VirtualTimeLoop",
    "run_virtual",
]
