"""SGLang, the reference engine: the client, and the server as a part of a program."""

from .engine import SGLangEngine

__all__ = ["SGLangEngine"]
