"""An endpoint with OpenAI's API, whose models are ``Sprint``s: chat completions, responses, the list of models.

``application({"legs": sprint})`` is an ASGI application for uvicorn or any other server; ``sprint serve`` runs it.
"""

from typing import TYPE_CHECKING, Any

from sprint_agents.errors import MissingExtra

if TYPE_CHECKING:
    from .asgi import Bounds, application

_EXTRA = ("starlette", "prometheus_client", "jsonschema")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import asgi
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        raise MissingExtra("serve", missing) from error
    return getattr(asgi, name)


__all__ = ["Bounds", "application"]
