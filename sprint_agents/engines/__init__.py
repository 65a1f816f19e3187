"""The engines, all with one protocol; each loads its own dependencies when it is first named.

>>> from sprint_agents.engines import LocalEngine
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import ChatTemplate
    from .local import LocalEngine, LocalStatistics
    from .openai import OpenAIEngine
    from .schemas import portable_schema, weaken
    from .sglang import SGLangEngine, SGLangServer

_HOMES = {
    "ChatTemplate": ".checkpoint",
    "LocalEngine": ".local",
    "LocalStatistics": ".local",
    "OpenAIEngine": ".openai",
    "SGLangEngine": ".sglang",
    "SGLangServer": ".sglang",
    "portable_schema": ".schemas",
    "weaken": ".schemas",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


__all__ = [
    "ChatTemplate",
    "LocalEngine",
    "LocalStatistics",
    "OpenAIEngine",
    "SGLangEngine",
    "SGLangServer",
    "portable_schema",
    "weaken",
]
