"""Events in other forms than OpenAI's, rewritten in that form.

Only invalid events come here, so the usual stream is not slowed down. Parts that cannot be understood are left alone,
and the validation then refuses them.
"""

from collections.abc import Callable
from typing import Any, cast

from sprint_agents.engines.json_text import join_halves

Json = dict[str, Any]
Note = Callable[[str], None]
"""Receives a sentence about something odd that was repaired."""

_HIDDEN_PARTS = ("think", "reason", "summary", "thought")
_MOST_TOKENS = 10**9
"""No request costs more, so a larger count is not one."""


class EventRepair:
    r"""Repairs the events of one answer, in order; ``half`` is the first half of a character that is still awaited.

    JSON writes a character outside the basic plane as two surrogates, which a server may send in two events.

    >>> repair = EventRepair(lambda sentence: None)
    >>> events = [{"choices": [{"delta": {"content": half}}]} for half in ("a \ud83d", "\ude00")]
    >>> [repair.rewrite(event)["choices"][0]["delta"]["content"] for event in events]
    ['a ', '😀']
    """

    __slots__ = ("_note", "half")

    def __init__(self, note: Note) -> None:
        self._note = note
        self.half = ""

    def rewrite(self, event: Json) -> Json:
        """Return ``event`` in OpenAI's form."""
        choices: Any = event.get("choices")
        if isinstance(choices, dict):
            choices = [_json(choices)]
        if isinstance(choices, list):
            choices = [self._choice(_json(each)) if isinstance(each, dict) else each for each in _list(choices)]
        return {"choices": choices, "usage": self._usage(event.get("usage")), "error": event.get("error")}

    def _choice(self, choice: Json) -> Json:
        found = {name: choice.get(name) for name in ("token_ids", "text", "logprobs", "error")}
        found["index"] = index if isinstance(index := choice.get("index"), int) else 0
        for name in ("stop_reason", "matched_stop"):
            found[name] = value if isinstance(value := choice.get(name), int | str) else None
        reason = choice.get("finish_reason")
        if isinstance(reason, dict):
            reason = _json(reason).get("type")
        found["finish_reason"] = None if reason is None else str(reason)
        last = bool(found["finish_reason"])
        if isinstance(found["text"], str):
            found["text"] = self._joined(found["text"], last=last)
        for name in ("delta", "message"):
            value = choice.get(name)
            if isinstance(value, str):
                value = {"content": value}
            found[name] = self._delta(_json(value), last=last) if isinstance(value, dict) else None
        return found

    def _delta(self, delta: Json, *, last: bool) -> Json:
        content, hidden = self._content(delta.get("content"))
        if isinstance(content, str) or (content is None and last and self.half):
            content = self._joined(content or "", last=last)
        found: Json = {"content": content}
        for name in ("reasoning_content", "reasoning", "refusal"):
            value = delta.get(name)
            found[name] = "".join(_texts(value)) or None
        found["reasoning_content"] = (hidden + (found["reasoning_content"] or "")) or None
        calls = delta.get("tool_calls")
        found["tool_calls"] = [calls] if isinstance(calls, dict) and calls else calls or None
        return found

    def _content(self, content: Any) -> tuple[Any, str]:
        """Return the text in ``content`` and the hidden reasoning in it; a list of parts may have both."""
        parts: Any = [_json(content)] if isinstance(content, dict) else content
        if not isinstance(parts, list) or not all(isinstance(part, dict | str) for part in _list(parts)):
            return cast(Any, content), ""
        text = hidden = ""
        for part in _list(parts):
            kind = "text" if isinstance(part, str) else str(_json(part).get("type", "text"))
            words = "".join(_texts(part))
            if any(word in kind for word in _HIDDEN_PARTS) or (isinstance(part, dict) and _json(part).get("thought")):
                hidden += words
            elif "text" in kind:
                text += words
            else:
                self._note(f"a part of the content is of type {kind[:40]!r} and was left out")
        return text, hidden

    def _joined(self, text: str, *, last: bool) -> str:
        """Join the halves of characters, and keep a last half for the next event."""
        text = self.half + text
        self.half = text[-1:] if not last and "\ud800" <= text[-1:] <= "\udbff" else ""
        return join_halves(text[: len(text) - len(self.half)])

    def _usage(self, usage: Any) -> Json | None:
        if not isinstance(usage, dict):
            if usage is not None:
                self._note("the usage is not an object and was left out")
            return None
        usage = _json(usage)
        details = usage.get("prompt_tokens_details")
        cached = _json(details).get("cached_tokens") if isinstance(details, dict) else None
        details = usage.get("completion_tokens_details")
        reasoning = _json(details).get("reasoning_tokens") if isinstance(details, dict) else None
        return {
            "prompt_tokens": self._count(usage.get("prompt_tokens")),
            "completion_tokens": self._count(usage.get("completion_tokens")),
            "prompt_tokens_details": {"cached_tokens": self._count(cached)},
            "completion_tokens_details": {"reasoning_tokens": self._count(reasoning)},
        }

    def _count(self, value: Any) -> int | None:
        """Return a count of tokens; None if it is not a number that one can be."""
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = -1.0
        if not 0 <= number <= _MOST_TOKENS:
            self._note("the usage has a count that no request can have, and it was left out")
            return None
        return round(number)


def _texts(value: Any, depth: int = 3) -> list[str]:
    """Return the texts in a part of a content, such as ``{"type": "thinking", "thinking": [{"text": "hm"}]}``."""
    if isinstance(value, str):
        return [value]
    if depth and isinstance(value, list):
        return [text for part in _list(value) for text in _texts(part, depth - 1)]
    if depth and isinstance(value, dict):
        part = _json(value)
        for key in ("text", "thinking", "reasoning", "summary", "value", "content"):
            if part.get(key):
                return _texts(part[key], depth - 1)
    return []


def _json(value: Any) -> Json:
    return cast(Json, value)


def _list(value: Any) -> list[Any]:
    return cast(list[Any], value)
