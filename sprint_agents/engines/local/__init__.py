"""The embedded engine: a Hugging Face model in this process, over one radix tree of keys and values.

Read the modules in this order:

- ``radix``: which token sequences are stored
- ``kv_cache``: where their keys and values are
- ``sequence``: one request inside the scheduler
- ``attention``: how a forward pass reads and writes the cache
- ``architecture``: what ``config.json`` says, if the engine knows the architecture
- ``lean``: the forward pass of known architectures, with ``linear`` for its products and ``weights`` for its files
- ``stock``: transformers' own forward pass, for all others
- ``model`` and ``loading``: a forward pass with its dimensions, and the choice between the two
- ``scheduler``: what each forward pass computes, with ``sampling``, ``detokenizer`` and ``grammar`` for its outputs
- ``worker``: the thread that runs the scheduler, and ``output``, the way back to asyncio
- ``files`` and ``gguf``: where the files of a model are
- ``engine``: the public ``LocalEngine``, with ``checkpoint`` for the content of these files

Importing the package does not import torch. The worker thread does, when it loads the model.
"""

from .engine import LocalEngine
from .worker import LocalStatistics

__all__ = ["LocalEngine", "LocalStatistics"]
