"""SGLang, the reference engine: the client, and the server as a part of a program."""

from .engine import SGLangEngine
from .server import SGLangServer

__all__ = ["SGLangEngine", "SGLangServer"]
