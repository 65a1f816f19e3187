"""Metrics in Prometheus' format, one registry for each application."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .answering import Tokens

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Counters:
    """Counts runs and their tokens by model."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.runs = Counter("sprint_runs", "Finished runs.", ["model", "outcome"], registry=registry)
        self.running = Gauge("sprint_runs_running", "Runs at this moment.", registry=registry)
        self.seconds = Histogram("sprint_run_seconds", "Durations.", ["model"], buckets=_SECONDS, registry=registry)
        self._tokens = Counter("sprint_tokens", "Tokens of finished runs.", ["model", "kind"], registry=registry)

    def count(self, model: str, tokens: Tokens) -> None:
        """Add the tokens of a run."""
        for kind in ("prompt", "cached", "completion", "reasoning"):
            self._tokens.labels(model, kind).inc(getattr(tokens, kind))

    def written(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self._registry)
