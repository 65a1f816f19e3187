"""The settings and parameters of a request, as far as the model accepts them by its profile.

Invariants:

- All requests of a run have the same tools and cache settings. ``Preference`` says what else may differ.
- A setting that the model refuses is left out, and so is one whose value changes nothing.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import httpx2
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.profiles.anthropic import ANTHROPIC_THINKING_BUDGET_MAP
from pydantic_ai.settings import ModelSettings, ThinkingLevel
from pydantic_ai.tools import ToolDefinition

from sprint_agents.engine import Request, Sampling, ToolBrief
from sprint_agents.engines.openai.conversation import Message
from sprint_agents.engines.openai.schema import NotStrict, make_strict, merge_choices
from sprint_agents.engines.schemas import parse_schema, portable_schema
from sprint_agents.errors import ConfigurationError

Preference = Literal["schemas", "cache"]
"""What matters more, since providers cache a prompt under its schema: schemas that are enforced, or a shared cache."""

_OFFICIAL = ("api.openai.com", "openai.azure.com", "api.anthropic.com")
_KEY_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Abilities:
    """The abilities of a model; ``leaves`` are the models that it asks, usually itself.

    Attributes:
        settings: the caller's, which take precedence over the model's own and the engine's.
        schemas: whether it can be held to a JSON schema.
        tools: whether it can call tools.
    """

    leaves: tuple[Model, ...]
    settings: Mapping[str, object]
    schemas: bool
    tools: bool

    @classmethod
    def of(cls, model: Model, settings: ModelSettings) -> "Abilities":
        """Read them from the profile of a model; those of a fallback are what all of its models have in common."""
        leaves = tuple(_leaves(model))
        profiles = [_profile(leaf) for leaf in leaves]
        return cls(
            leaves=leaves,
            settings=cast("Mapping[str, object]", settings),
            schemas=all(profile.get("supports_json_schema_output") for profile in profiles),
            tools=all(profile.get("supports_tools", True) for profile in profiles),
        )

    def settings_of(self, request: Request, messages: list[Message], *, prefer: Preference) -> ModelSettings:
        """Return the settings of a request, whose conversation begins with ``messages``."""
        found: dict[str, object] = {"max_tokens": request.max_tokens, **self._sampling(request.sampling)}
        if all("max_retries" not in leaf.unsupported_settings for leaf in self.leaves):
            found["max_retries"] = 0  # the engine repeats a request itself
        if all("cache" not in (leaf.settings or {}) for leaf in self.leaves):
            found["cache"] = True
        found |= self._cache_key(messages)
        if request.tools and not request.may_call and prefer == "schemas":
            found["tool_choice"] = "none"
        return cast(ModelSettings, {**found, **self.settings, **self._thinking(request.max_tokens)})

    def parameters_of(self, request: Request) -> ModelRequestParameters:
        """Return the tools of a request, and its schema in a form that all providers understand."""
        tools = [_definition(tool) for tool in request.tools]
        if request.schema is None or (request.tools and not self._schemas_beside_tools(may_call=request.may_call)):
            return ModelRequestParameters(function_tools=tools)
        try:
            strict = make_strict(parse_schema(request.schema))
            output = OutputObjectDefinition(json_schema=strict, name="completion", strict=True)
        except NotStrict:
            loose = merge_choices(parse_schema(portable_schema(request.schema)))
            output = OutputObjectDefinition(json_schema=loose, name="completion")
        return ModelRequestParameters(function_tools=tools, output_mode="native", output_object=output)

    def _sampling(self, sampling: Sampling) -> Mapping[str, object]:
        """Return how tokens are drawn, as far as every leaf accepts it.

        The neutral values are left out: ``top_p=1`` with any temperature is refused by Claude, for example.
        """
        further = self._further(sampling)
        if any(self._refuses_sampling(leaf) for leaf in self.leaves):
            return {}
        found: dict[str, object] = {"temperature": sampling.temperature, **further}
        if sampling.top_p < 1:
            found["top_p"] = sampling.top_p
            if any(map(_is_claude, self.leaves)):  # one of the two
                del found["temperature" if sampling.temperature == 1 else "top_p"]
        if sampling.seed is not None:
            found["seed"] = sampling.seed
        return found

    def _further(self, sampling: Sampling) -> dict[str, object]:
        """Return the settings that not every model has.

        Raises:
            ConfigurationError: pydantic-ai does not have one of them, or not for this model.
        """
        found = sampling.optional
        for name, value in found.items():
            if name not in ModelSettings.__annotations__ or any(
                name in leaf.unsupported_settings for leaf in self.leaves
            ):
                raise ConfigurationError(
                    f"{self.leaves[0].model_id} does not support {name}, which is {value}: leave it out of Sampling"
                )
        if "logit_bias" in found:
            found["logit_bias"] = {str(token): round(bias) for token, bias in sampling.logit_bias.items()}
        return found

    def _thinking(self, max_tokens: int) -> Mapping[str, object]:
        """Lower the level of thinking until its tokens leave room for words, for a Claude that must know their number.

        Such a model refuses a request whose tokens are not more than those of its thoughts.
        """
        level = cast("ThinkingLevel | None", self.settings.get("thinking"))
        if not level or not any(map(_counts_thoughts, self.leaves)):
            return {}
        most = min(max_tokens - 1, ANTHROPIC_THINKING_BUDGET_MAP[level])
        if ANTHROPIC_THINKING_BUDGET_MAP[level] <= most:
            return {}
        lower: list[ThinkingLevel] = ["high", "medium", "low", "minimal"]
        return {"thinking": next((each for each in lower if ANTHROPIC_THINKING_BUDGET_MAP[each] <= most), False)}

    def _refuses_sampling(self, leaf: Model) -> bool:
        """Say whether a model refuses a temperature; most models that think do, while they think."""
        profile, settings = _profile(leaf), {**(leaf.settings or {}), **self.settings}
        if profile.get("anthropic_disallows_sampling_settings") or profile.get("bedrock_disallows_sampling_settings"):
            return True
        thinking = settings.get("thinking")
        if _is_claude(leaf):
            return bool(thinking) or "anthropic_thinking" in settings
        if not profile.get("openai_supports_reasoning"):
            return False
        efforts = profile.get("openai_reasoning_efforts")
        may_rest = "none" in efforts if efforts is not None else profile.get("openai_supports_reasoning_effort_none")
        effort = settings.get("openai_reasoning_effort")
        if effort is not None:
            rests = effort == "none"
        else:
            rests = thinking is False if thinking is not None else not profile.get("thinking_enabled_by_default")
        return not (may_rest and rests)

    def _schemas_beside_tools(self, *, may_call: bool) -> bool:
        """Say whether a request may have both a schema and tools, which the model may call."""
        if may_call:
            return all(map(_is_official, self.leaves))
        return all(
            _profile(leaf).get("google_supports_tool_combination") or not leaf.system.startswith("google")
            for leaf in self.leaves
        )

    def _cache_key(self, messages: list[Message]) -> Mapping[str, object]:
        """Return a key for the beginning of a conversation: requests with one key are sent to one cache."""
        systems = {"mistral"} & {leaf.system for leaf in self.leaves}
        official = [leaf for leaf in self.leaves if leaf.system in ("openai", "azure") and _is_official(leaf)]
        if not systems and not official:
            return {}
        beginning = "\0".join(str(message.get("content")) for message in messages[:2])
        key = hashlib.sha256(beginning.encode()).hexdigest()[:_KEY_LENGTH]
        found = {"mistral_prompt_cache_key": key} if systems else {}
        return found | ({"openai_prompt_cache_key": key} if official else {})


def _definition(tool: ToolBrief) -> ToolDefinition:
    return ToolDefinition(
        name=tool.name, description=tool.description, parameters_json_schema=parse_schema(tool.schema)
    )


def _leaves(model: Model) -> Iterator[Model]:
    if isinstance(model, WrapperModel):
        yield from _leaves(model.wrapped)
    elif isinstance(model, FallbackModel):
        for each in model.models:
            yield from _leaves(each)
    else:
        yield model


def _profile(leaf: Model) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", leaf.profile)


def _is_claude(leaf: Model) -> bool:
    return "claude" in leaf.model_name.lower()


def _counts_thoughts(leaf: Model) -> bool:
    """Say whether a model is told how many tokens it may think, as Claude was before it adapted them itself."""
    profile = _profile(leaf)
    adapts = profile.get("anthropic_supports_adaptive_thinking")
    return _is_claude(leaf) and bool(profile.get("supports_thinking")) and not adapts


def _is_official(leaf: Model) -> bool:
    """Say whether a model is asked at OpenAI's or Anthropic's own servers, not at others with the same API."""
    host = httpx2.URL(leaf.base_url or "").host
    return any(host == end or host.endswith(f".{end}") for end in _OFFICIAL)
