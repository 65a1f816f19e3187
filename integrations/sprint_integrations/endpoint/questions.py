"""What a client asks, in the terms of this library: requests of both APIs become a ``Question``.

Fields that would change the answer in a way that a ``Sprint`` cannot follow, such as tools of the client, are refused.
Fields that do not, such as ``user`` or ``metadata``, are ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sprint_agents.errors import SprintError


class BadRequest(SprintError):
    """A request that cannot be answered; ``parameter`` is the field that is wrong."""

    def __init__(
        self, message: str, *, parameter: str | None = None, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A task for a model, and how to answer it.

    Attributes:
        model: the name of a ``Sprint``.
        task: the text that it solves.
        schema: the JSON schema of the answer, if the client wants one.
        max_tokens: the most generated tokens of the whole run.
        temperature: as in ``Sampling``, like ``top_p`` and ``seed``; None for the ``Sprint``'s own.
        stream: whether the client wants events.
        counted: whether a stream of chat completions ends with the usage.
    """

    model: str
    task: str
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stream: bool = False
    counted: bool = False


class _Body(BaseModel):
    """The fields of both APIs; those of the second group are refused if they are set."""

    model_config = ConfigDict(extra="ignore")

    model: str
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None

    tools: list[Any] | None = None
    tool_choice: Any = None

    def refuse(self, **unsupported: object) -> None:
        """Refuse parameters that are set; None, False and what is empty are not.

        Raises:
            BadRequest: naming the first one.
        """
        if self.tools and self.tool_choice != "none":
            _refuse("tools", "the tools of a sprint are those of its executor")
        for name, value in unsupported.items():
            if value:
                _refuse(name, "leave it out")


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: str = "text"
    text: str = ""


def _parts(content: object) -> object:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = "user"
    type: str = "message"
    content: Annotated[list[_Part], BeforeValidator(_parts)] = []

    def text(self) -> str:
        """Return the text of all parts.

        Raises:
            BadRequest: a part is an image, a sound or a file, or the message is a tool call.
        """
        if self.type != "message":
            _refuse(self.type, "a conversation consists of messages")
        for part in self.content:
            if part.type not in ("text", "input_text", "output_text", "refusal"):
                _refuse(part.type, "write the message as text", parameter="messages")
        return "\n".join(part.text for part in self.content if part.text)


class _Schema(BaseModel):
    # "schema" is a method of every pydantic model.
    model_config = ConfigDict(extra="ignore")

    type: Literal["text", "json_object", "json_schema"] = "text"
    wanted: dict[str, Any] | None = Field(default=None, alias="schema")


class _ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: _Schema = _Schema()


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatRequest(_Body):
    """The body of ``/v1/chat/completions``."""

    messages: list[_Message] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    response_format: _ResponseFormat | None = None
    stream_options: _StreamOptions | None = None

    n: int | None = None
    stop: Any = None
    logprobs: bool | None = None
    functions: list[Any] | None = None

    def question(self) -> Question:
        """Return what is asked.

        Raises:
            BadRequest: a parameter or a part of a message is not supported.
        """
        self.refuse(n=(self.n or 1) > 1, stop=self.stop, logprobs=self.logprobs, functions=self.functions)
        wanted = self.response_format
        return Question(
            model=self.model,
            task=task_of(self.messages),
            schema=_wanted(wanted.json_schema.wanted if wanted else None, wanted.type if wanted else "text"),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stream=bool(self.stream),
            counted=bool(self.stream_options and self.stream_options.include_usage),
        )


class _TextSettings(BaseModel):
    model_config = ConfigDict(extra="ignore")

    format: _Schema = _Schema()


def _messages(given: object) -> object:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


class ResponsesRequest(_Body):
    """The body of ``/v1/responses``."""

    input: Annotated[list[_Message], BeforeValidator(_messages)] = Field(min_length=1)
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    text: _TextSettings = _TextSettings()

    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None

    def question(self) -> Question:
        """Return what is asked.

        Raises:
            BadRequest: a parameter or a part of a message is not supported.
        """
        self.refuse(
            previous_response_id=self.previous_response_id, conversation=self.conversation, background=self.background
        )
        messages = [message for message in self.input if message.type != "reasoning"]
        if self.instructions:
            messages.insert(0, _Message(role="system", content=[_Part(text=self.instructions)]))
        return Question(
            model=self.model,
            task=task_of(messages),
            schema=_wanted(self.text.format.wanted, self.text.format.type),
            max_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stream=bool(self.stream),
        )


def task_of(messages: Sequence[_Message]) -> str:
    """Write a conversation as one task: a lone message as it is, otherwise each turn under its role.

    >>> task_of([_Message(content="6 * 7?")])
    '6 * 7?'
    """
    said = [(message.role, message.text()) for message in messages]
    if len(said) == 1:
        return said[0][1]
    *earlier, (role, last) = said
    if role != "user":
        raise BadRequest("the last message must be the user's: it is the task", parameter="messages")
    rules = [text for speaker, text in earlier if speaker in ("system", "developer")]
    turns = [f"{speaker}: {text}" for speaker, text in earlier if speaker not in ("system", "developer")]
    parts = [*rules, "\n\n".join(["The conversation so far:", *turns]) if turns else "", last]
    return "\n\n".join(part for part in parts if part)


def _wanted(schema: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any] | None:
    if kind == "json_object":
        return {"type": "object"}
    if kind == "json_schema" and schema is None:
        raise BadRequest("json_schema needs a schema", parameter="response_format")
    return schema if kind == "json_schema" else None


def _refuse(name: str, remedy: str, *, parameter: str | None = None) -> NoReturn:
    raise BadRequest(
        f"{name} is not supported here: {remedy}", parameter=parameter or name, code="unsupported_parameter"
    )
