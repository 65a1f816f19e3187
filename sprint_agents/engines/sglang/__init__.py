"""SGLang, the reference engine: the client, and the server as a part of a program."""

from .engine import SGLangEngine
from .model import ServedModel
from .server import SGLangServer

__all__ = ["SGLangEngine", "SGLangServer", "ServedModel"]
