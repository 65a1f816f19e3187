"""Servers with OpenAI's HTTP API: hosted models, vLLM, SGLang, llama.cpp, Ollama."""

from .engine import OpenAIEngine
from .server import SERVERS, Server, ServerName

__all__ = ["SERVERS", "OpenAIEngine", "Server", "ServerName"]
