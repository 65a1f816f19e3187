"""The embedded engine: a Hugging Face model in this process, over one radix tree of keys and values.

Read in this order: ``radix`` (what is stored), ``storage`` (where), ``attention`` (how a step reads it),
``scheduler`` (what a step computes), ``worker`` (the thread), ``engine`` (asyncio). Importing the package imports
no torch: the worker thread does, when it loads the model.
"""

from .engine import LocalEngine
from .worker import LocalStatistics

__all__ = ["LocalEngine", "LocalStatistics"]
