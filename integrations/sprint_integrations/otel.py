"""Traces and metrics of runs by OpenTelemetry, with the names of its GenAI conventions (v0.1.0, in development).

``Sprint(engine, listeners=[Telemetry()])`` sends what your application's OpenTelemetry SDK exports:

- a span ``invoke_workflow`` for each run, within the span that is current when it starts
- a span ``plan`` for each stage, as long as its planner writes
- a span ``invoke_agent executor`` for each execution; it links to the span of the plan from which it was dispatched
- a span ``execute_tool`` for each tool call
- a span ``text_completion`` for each request, with its tokens and those of them that a cache served, unless
  ``requests=False``

Every span of a run has its id as ``gen_ai.conversation.id``, which log messages have as ``run``. What was said is left
out, unless you ask for ``content``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sprint_agents import __version__
from sprint_agents.errors import MissingExtra
from sprint_agents.events import (
    BudgetAwaited,
    Event,
    ExecutionFinished,
    ExecutionRetried,
    InnerEvent,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    SubtaskStarted,
    ToolCalled,
    ToolFinished,
)
from sprint_agents.plan import Failure
from sprint_agents.usage import CallUsage, EngineCall

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
except ModuleNotFoundError as error:
    raise MissingExtra("otel", "opentelemetry-api") from error

SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai/0.1.0"
"""The conventions that all names come from."""

_OPERATION, _AGENT, _RUN = "gen_ai.operation.name", "gen_ai.agent.name", "gen_ai.conversation.id"
_PROVIDER, _MODEL, _RESPONSE = "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.id"
_INPUT, _OUTPUT, _CACHED = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
)
_TOOL, _TOKEN_TYPE, _ERROR = "gen_ai.tool.name", "gen_ai.token.type", "error.type"
_STAGE, _SUBTASK = "sprint.stage", "sprint.subtask"

_Key = tuple[int, ...]
"""Where a span belongs in its run: a stage, an execution as (stage, number), or a tool call of it."""


@dataclass(slots=True)
class _RunSpans:
    """The open spans of one run; ``within`` is the context of its own span, ``links`` lead to its plans by stage."""

    id: str
    run: Span
    within: context.Context
    origin: int
    provider: str
    model: str
    plans: dict[int, Span] = field(default_factory=dict[int, Span])
    links: dict[int, Sequence[Link]] = field(default_factory=dict[int, Sequence[Link]])
    spans: dict[_Key, Span] = field(default_factory=dict[_Key, Span])

    def at(self, seconds: float) -> int:
        """Return a time of the run in nanoseconds of the wall clock."""
        return self.origin + round(seconds * 1e9)


class Telemetry:
    """A listener for any number of ``Sprint``s and runs.

    Args:
        tracer_provider: where spans go; by default the application's.
        meter_provider: where metrics go; by default the application's.
        name: the name of the workflow, ``gen_ai.agent.name`` of a run's span.
        content: whether spans hold tasks, prompts, results, answers and the arguments of tools.
        requests: whether each request to the engine has a span. If not, its tokens are on the span of its plan or
            execution, and a wide run costs less.

    >>> telemetry = Telemetry(name="counts legs")
    """

    texts = False  # the records have all texts at their end, so executors' completions may arrive whole

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        name: str = "sprint",
        content: bool = False,
        requests: bool = True,
    ) -> None:
        self._tracer = trace.get_tracer("sprint_agents", __version__, tracer_provider, SCHEMA_URL)
        meter = metrics.get_meter("sprint_agents", __version__, meter_provider, SCHEMA_URL)
        self._durations = meter.create_histogram(
            "gen_ai.invoke_agent.duration", "s", "Durations of runs and executions."
        )
        self._requests = meter.create_histogram("gen_ai.client.operation.duration", "s", "Durations of requests.")
        self._tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of requests.")
        self._name = name
        self._content = content
        self._request_spans = requests
        self._runs: dict[str, _RunSpans] = {}

    def __call__(self, event: Event) -> None:
        """Take the next event of a run."""
        if isinstance(event, InnerEvent):
            self._inner(event)
        elif isinstance(event, RunStarted):
            self._start(event, context.get_current())
        elif (spans := self._runs.get(event.run_id)) is not None:
            self._take(spans, event)

    def _inner(self, event: InnerEvent) -> None:
        """Take an event of a run that carries out a subtask; its spans are within that of the execution."""
        inner = event.event
        if isinstance(inner, RunStarted):
            outer = self._runs.get(event.run_id)
            execution = outer and outer.spans.get((event.stage, event.number))
            self._start(inner, trace.set_span_in_context(execution) if execution else context.get_current())
        else:
            self(inner)

    def _start(self, event: RunStarted, parent: context.Context) -> None:
        provider, _, model = event.engine.partition(":")
        attributes = {
            _OPERATION: "invoke_workflow",
            _AGENT: self._name,
            _RUN: event.run_id,
            "sprint.policy": event.policy,
        }
        origin = round(event.origin.timestamp() * 1e9)
        started = origin + round(event.at * 1e9)
        span = self._tracer.start_span(
            f"invoke_workflow {self._name}", parent, attributes=attributes, start_time=started
        )
        within = trace.set_span_in_context(span)
        self._runs[event.run_id] = _RunSpans(event.run_id, span, within, origin, provider, model)
        self._say(span, "gen_ai.input.messages", "user", event.task)

    def _take(self, spans: _RunSpans, event: Event) -> None:
        match event:
            case StageStarted():
                attributes = {_OPERATION: "plan", _AGENT: "planner", _STAGE: event.stage}
                span = self._open(spans, spans.within, "plan planner", event.at, attributes)
                spans.plans[event.stage] = span
                spans.links[event.stage] = [Link(span.get_span_context())]
            case SubtaskStarted():
                self._start_execution(spans, event)
            case ToolCalled():
                self._start_tool(spans, event)
            case ToolFinished():
                self._end_tool(spans, event)
            case ExecutionRetried() | BudgetAwaited():
                self._note(spans, event)
            case ExecutionFinished():
                self._end_execution(spans, event)
            case StageFinished():
                self._end_stage(spans, event)
            case RunFinished():
                self._end(spans, event)
            case _:
                pass

    def _open(
        self,
        spans: _RunSpans,
        parent: context.Context,
        name: str,
        at: float,
        attributes: Mapping[str, Any],
        links: Sequence[Link] = (),
    ) -> Span:
        return self._tracer.start_span(
            name,
            parent,
            attributes={**attributes, _RUN: spans.id},
            links=links,
            start_time=spans.at(at),
        )

    def _start_execution(self, spans: _RunSpans, event: SubtaskStarted) -> None:
        attributes = {_OPERATION: "invoke_agent", _AGENT: "executor", _STAGE: event.stage, _SUBTASK: event.number}
        links = spans.links.get(event.stage, ())
        span = self._open(spans, spans.within, "invoke_agent executor", event.at, attributes, links)
        self._say(span, "gen_ai.input.messages", "user", event.prompt)
        spans.spans[event.stage, event.number] = span

    def _end_execution(self, spans: _RunSpans, event: ExecutionFinished) -> None:
        execution = event.execution
        span = spans.spans.pop((event.stage, execution.number), None)
        if span is None:  # it had finished in an earlier process
            return
        self._add_requests(spans, span, execution.calls)
        span.set_attribute("sprint.plan_tokens", execution.plan_tokens)
        self._say(span, "gen_ai.output.messages", "assistant", execution.text)
        seconds = execution.ended - execution.started
        self._close(span, spans.at(execution.ended), execution.failure, "invoke_agent", "executor", seconds)

    def _start_tool(self, spans: _RunSpans, event: ToolCalled) -> None:
        execution = spans.spans.get((event.stage, event.number))
        if execution is not None:
            attributes = {_OPERATION: "execute_tool", _TOOL: event.tool, "gen_ai.tool.type": "function"}
            if self._content:
                attributes["gen_ai.tool.call.arguments"] = event.arguments
            parent = trace.set_span_in_context(execution)
            span = self._open(spans, parent, f"execute_tool {event.tool}", event.at, attributes)
            spans.spans[event.stage, event.number, event.call] = span

    def _end_tool(self, spans: _RunSpans, event: ToolFinished) -> None:
        span = spans.spans.pop((event.stage, event.number, event.call), None)
        if span is not None:
            if self._content:
                span.set_attribute("gen_ai.tool.call.result", event.text)
            if event.failed:
                span.set_attribute(_ERROR, "tool_error")
                span.set_status(Status(StatusCode.ERROR))
            span.end(spans.at(event.at))

    def _note(self, spans: _RunSpans, event: ExecutionRetried | BudgetAwaited) -> None:
        key = event.stage if event.number is None else (event.stage, event.number)
        span = spans.plans.get(key) if isinstance(key, int) else spans.spans.get(key)
        if span is not None:
            span.add_event(event.kind, timestamp=spans.at(event.at))

    def _end_stage(self, spans: _RunSpans, event: StageFinished) -> None:
        span = spans.plans.pop(event.stage.number, None)
        if span is not None:
            calls = event.stage.calls
            self._add_requests(spans, span, calls)
            self._say(span, "gen_ai.output.messages", "assistant", event.stage.plan)
            span.end(spans.at(max((call.ended for call in calls), default=event.stage.started)))

    def _end(self, spans: _RunSpans, event: RunFinished) -> None:
        run, usage = event.run, event.run.usage
        del self._runs[event.run_id]
        for span in (*spans.spans.values(), *spans.plans.values()):  # a run that fails leaves its last stage open
            span.set_status(Status(StatusCode.ERROR))
            span.end(spans.at(event.at))
        spans.run.set_attributes(
            {
                _INPUT: usage.prompt_tokens,
                _OUTPUT: usage.total_tokens,
                _CACHED: usage.cached_tokens,
                "sprint.sequential_tokens": usage.sequential_tokens,
                "sprint.sequential_seconds": usage.sequential_seconds,
                "sprint.stages": usage.stages,
                "sprint.subtasks": usage.subtasks,
            }
        )
        self._say(spans.run, "gen_ai.output.messages", "assistant", str(run.answer))
        self._close(spans.run, spans.at(event.at), run.error, "invoke_workflow", self._name, usage.seconds)

    def _close(self, span: Span, at: int, failure: Failure | None, operation: str, agent: str, seconds: float) -> None:
        attributes = {_OPERATION: operation, _AGENT: agent}
        if failure is not None:
            attributes[_ERROR] = failure.type
            span.set_attribute(_ERROR, failure.type)
            span.set_status(Status(StatusCode.ERROR, failure.message if self._content else None))
        span.end(at)
        self._durations.record(max(0.0, seconds), attributes)

    def _add_requests(self, spans: _RunSpans, parent: Span, calls: Sequence[EngineCall]) -> None:
        """Measure each request, and make a span for it, when its times are known."""
        named = {_OPERATION: "text_completion", _PROVIDER: spans.provider, _MODEL: spans.model}
        within = trace.set_span_in_context(parent)
        if not self._request_spans:
            total = CallUsage.sum([call.usage for call in calls])
            parent.set_attributes(
                {_INPUT: total.prompt_tokens, _CACHED: total.cached_tokens, _OUTPUT: total.generated_tokens}
            )
        for call in calls:
            usage = call.usage
            if self._request_spans:
                self._add_request(spans, within, call, named)
            self._requests.record(max(0.0, call.ended - call.started), named)
            self._tokens.record(usage.prompt_tokens, {**named, _TOKEN_TYPE: "input"})
            self._tokens.record(usage.generated_tokens, {**named, _TOKEN_TYPE: "output"})

    def _add_request(
        self, spans: _RunSpans, parent: context.Context, call: EngineCall, named: Mapping[str, str]
    ) -> None:
        usage = call.usage
        span = self._tracer.start_span(
            f"text_completion {spans.model}".strip(),
            parent,
            kind=SpanKind.CLIENT,
            attributes={
                **named,
                _RUN: spans.id,
                _RESPONSE: ",".join(call.request_ids),
                _INPUT: usage.prompt_tokens,
                _CACHED: usage.cached_tokens,
                _OUTPUT: usage.generated_tokens,
                "sprint.role": call.role,
            },
            start_time=spans.at(call.started),
        )
        span.end(spans.at(call.ended))

    def _say(self, span: Span, name: str, role: str, text: str) -> None:
        if self._content and text:
            span.set_attribute(name, json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}]))
