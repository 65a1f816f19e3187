"""The one thread that owns the model: it takes commands between steps and posts what each step gave.

Every submitted request ends by exactly one last item in its stream (a finish or an error), unless its own reader
aborted it; and every abort is answered, whatever else happens. So nothing waits for a thread that is gone.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sprint_agents.engine import Request
from sprint_agents.errors import EngineUnavailable, InvalidRequest

from .stream import Item, Mailbox, Piece, Stream
