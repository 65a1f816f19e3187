"""Spans and metrics of runs, collected by OpenTelemetry's SDK and received over OTLP."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sprint_agents import Executor, Sprint
from sprint_agents.errors import SprintError
from sprint_agents.testing import FakeEngine, Latency, run_virtual
from sprint_integrations.otel import Telemetry
from tests.integrations.served import served

REPLIES = {
    "planner, stage 1": '{"subtasks": ["secret cats", "secret hens"]}',
    "executor 1.1: the tools": '{"result": "8"}',
    "executor 1.1": '{"call": [{"tool": "legs", "arguments": {"animal": "cat"}}]}',
    "executor 1.2": '{"result": "4"}',
    "planner": '{"answer": "12"}',
}


def legs(animal: str) -> int:
    """Count the legs of an animal."""
    if animal == "snake":
        raise ValueError("secret: it has none")
    return 4


class Collected:
    """What a telemetry sends, in memory."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        meters = MeterProvider(metric_readers=[self.reader])
        self.telemetry = Telemetry(tracer_provider=self.provider, meter_provider=meters, name="legs", **options)

    def sprint(self, replies: dict[str, str] | None = None, **options: Any) -> Sprint[Any, Any]:
        options.setdefault("executor", Executor(str, tools=[legs]))
        engine = FakeEngine(replies or REPLIES, latency=Latency(request=1, token=0.1))
        return Sprint(engine, dialect="json", listeners=[self.telemetry], **options)

    @property
    def spans(self) -> dict[str, list[ReadableSpan]]:
        found: dict[str, list[ReadableSpan]] = {}
        for span in self.exporter.get_finished_spans():
            found.setdefault(span.name.split()[0], []).append(span)
        return found

    def metrics(self) -> Iterator[Any]:
        for resource in self.reader.get_metrics_data().resource_metrics:
            for scope in resource.scope_metrics:
                yield from scope.metrics


def test_a_run_is_a_tree_of_spans_with_its_times() -> None:
    collected = Collected()
    run = run_virtual(collected.sprint().run("How many secret legs?"))
    spans = collected.spans
    (workflow,) = spans["invoke_workflow"]
    assert [span.name for span in spans["plan"]] == ["plan planner"] * 2
    assert all(
        span.parent.span_id == workflow.context.span_id for name in ("plan", "invoke_agent") for span in spans[name]
    )
    first = spans["plan"][0]
    for span in spans["invoke_agent"]:
        assert [link.context.span_id for link in span.links] == [first.context.span_id]
        assert span.start_time < first.end_time  # it was dispatched while the planner wrote
    (tool,) = spans["execute_tool"]
    assert tool.name == "execute_tool legs"
    requests = spans["text_completion"]
    assert len(requests) == run.usage.calls
    assert sum(span.attributes["gen_ai.usage.cache_read.input_tokens"] for span in requests) == run.usage.cached_tokens
    assert sum(span.attributes["gen_ai.usage.output_tokens"] for span in requests) == run.usage.total_tokens
    assert workflow.attributes["gen_ai.usage.output_tokens"] == run.usage.total_tokens
    assert (workflow.end_time - workflow.start_time) / 1e9 == pytest.approx(run.usage.seconds, abs=1e-6)
    every = [span for group in spans.values() for span in group]
    assert {span.attributes["gen_ai.conversation.id"] for span in every} == {run.id}
    assert not any("secret" in json.dumps(dict(span.attributes)) for span in every)


def test_content_is_there_if_it_is_asked_for() -> None:
    collected = Collected(content=True)
    run_virtual(collected.sprint().run("How many secret legs?"))
    (workflow,) = collected.spans["invoke_workflow"]
    (said,) = json.loads(workflow.attributes["gen_ai.input.messages"])
    assert said == {"role": "user", "parts": [{"type": "text", "content": "How many secret legs?"}]}
    (tool,) = collected.spans["execute_tool"]
    assert tool.attributes["gen_ai.tool.call.arguments"] == '{"animal": "cat"}'


def test_durations_and_tokens_are_metrics() -> None:
    collected = Collected()
    run = run_virtual(collected.sprint().run("Legs?"))
    found = {metric.name: list(metric.data.data_points) for metric in collected.metrics()}
    points = {point.attributes["gen_ai.token.type"]: point.sum for point in found["gen_ai.client.token.usage"]}
    assert points == {"input": run.usage.prompt_tokens, "output": run.usage.total_tokens}
    durations = {point.attributes["gen_ai.operation.name"]: point for point in found["gen_ai.invoke_agent.duration"]}
    assert durations["invoke_agent"].count == 2
    assert durations["invoke_workflow"].sum == pytest.approx(run.usage.seconds)


def test_failures_are_errors_without_their_words() -> None:
    collected = Collected()
    wrong = {"executor 1.1": REPLIES["executor 1.1"].replace("cat", "snake"), "executor 1.2": "", "planner": ""}
    with pytest.raises(SprintError):
        run_virtual(collected.sprint(REPLIES | wrong).run("Legs?"))
    (tool,) = collected.spans["execute_tool"]
    assert tool.attributes["error.type"] == "tool_error"
    (workflow,) = collected.spans["invoke_workflow"]
    assert not workflow.status.is_ok
    assert workflow.attributes["error.type"] == "NoProgress"
    assert workflow.status.description is None
    assert len(collected.spans["invoke_agent"]) == 2


def test_a_run_within_an_execution_is_within_its_span() -> None:
    collected = Collected()
    inner = Sprint(FakeEngine({"planner": '{"answer": "4"}'}), dialect="json")
    run_virtual(collected.sprint(executor=inner).run("Legs?"))
    executions = {span.context.span_id for span in collected.spans["invoke_agent"]}
    parents = {span.parent.span_id for span in collected.spans["invoke_workflow"] if span.parent}
    assert parents == executions


def test_the_span_that_is_current_is_the_parent_of_a_run() -> None:
    collected = Collected()
    with collected.provider.get_tracer("app").start_as_current_span("request") as request:
        run_virtual(collected.sprint().run("Legs?"))
    (workflow,) = collected.spans["invoke_workflow"]
    assert workflow.parent.span_id == request.get_span_context().span_id


def test_a_receiver_gets_spans_over_otlp() -> None:
    received: list[ExportTraceServiceRequest] = []

    async def take(request: Request) -> Response:
        received.append(ExportTraceServiceRequest.FromString(await request.body()))
        return Response()

    async def main() -> None:
        async with served(Starlette(routes=[Route("/v1/traces", take, methods=["POST"])])) as url:
            provider = TracerProvider()
            await asyncio.to_thread(export, provider, url)

    def export(provider: TracerProvider, url: str) -> None:
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
        telemetry = Telemetry(tracer_provider=provider)
        Sprint(FakeEngine(["<Final_answer>4</Final_answer>"]), listeners=[telemetry]).run_sync("2+2?")
        provider.shutdown()

    asyncio.run(main())
    names = [
        span.name
        for each in received
        for group in each.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]
    assert names[-1] == "invoke_workflow sprint"


def test_after_a_run_nothing_is_kept() -> None:
    collected = Collected()
    run_virtual(collected.sprint().run("Legs?"))
    assert not collected.telemetry._runs


def test_without_spans_of_requests_their_tokens_are_on_plans_and_executions() -> None:
    collected = Collected(requests=False)
    run = run_virtual(collected.sprint().run("How many legs?"))
    assert "text_completion" not in collected.spans
    spans = [*collected.spans["plan"], *collected.spans["invoke_agent"]]
    generated = sum(int(str((span.attributes or {})["gen_ai.usage.output_tokens"])) for span in spans)
    assert generated == run.usage.total_tokens
    assert "gen_ai.client.token.usage" in {metric.name for metric in collected.metrics()}
