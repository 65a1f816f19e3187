"""Hosted models through pydantic-ai: Anthropic, Google, Bedrock, Mistral, Groq, OpenAI's Responses and others."""

from typing import TYPE_CHECKING, Any

from sprint_agents.errors import MissingExtra

if TYPE_CHECKING:
    from .engine import PydanticAIEngine


def __getattr__(name: str) -> Any:
    if name != "PydanticAIEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .engine import PydanticAIEngine
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pydantic_ai":
            raise
        raise MissingExtra("pydantic-ai", "pydantic-ai") from error
    return PydanticAIEngine


__all__ = ["PydanticAIEngine"]
