"""What the worker counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from atlas.bus import Publication
from atlas.inference.vectors import Unusable
from atlas.serving import Signal, trades

__all__ = ["Metrics"]

# From a tenth of the aim (0.7 ms) to the longest wait that the event loop may ever see.
_LATENCY_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)


class Metrics:
    """One worker's counters, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.predictions = Counter(
            "predictions",
            "Predictions made of feature rows.",
            ["model", "symbol"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "prediction_latency_seconds",
            "From reading the notification of a row to the reply of the publication.",
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.publications = Counter(
            "publications",
            "What became of the signals.",
            ["stage", "outcome"],
            registry=self.registry,
        )
        self.unusable = Counter(
            "unusable", "Feature rows not predicted, by reason.", ["reason"], registry=self.registry
        )
        self.errors = Counter(
            "errors", "Failures, by the part that failed.", ["part"], registry=self.registry
        )
        self.swaps = Counter(
            "swaps", "Line-ups of a model put in service.", ["model"], registry=self.registry
        )
        self.refusals = Counter(
            "refusals", "Candidates refused.", ["model", "stage"], registry=self.registry
        )
        self.halted = Gauge(
            "halted",
            "1 while no live signal may leave; a Redis that is gone counts.",
            registry=self.registry,
        )
        self.halted.set(1)
        self.outbox_depth = Gauge(
            "outbox_depth", "Predictions not yet in ClickHouse.", registry=self.registry
        )
        self.stream_lag = Gauge(
            "stream_lag_seconds",
            "Age of the newest row when it was read.",
            ["view"],
            registry=self.registry,
        )
        self.loop_lag = Gauge(
            "event_loop_lag_seconds",
            "The longest that the event loop was late in the last five seconds.",
            registry=self.registry,
        )

    def count(
        self,
        signals: Sequence[Signal],
        outcomes: Sequence[Publication],
        latencies_us: Sequence[int],
    ) -> None:
        """Count predictions, what became of each, and how long it took."""
        for signal, outcome, latency_us in zip(signals, outcomes, latencies_us, strict=True):
            self.predictions.labels(signal.model, signal.symbol).inc()
            self.publications.labels(signal.stage, outcome).inc()
            self.latency.observe(latency_us / 1e6)
            if trades(signal.stage) and outcome is not Publication.DUPLICATE:
                self.halted.set(outcome is Publication.HALTED)

    def count_unusable(self, unusable: Mapping[Unusable, int]) -> None:
        """Count the rows that were not fit."""
        for reason, rows in unusable.items():
            self.unusable.labels(reason).inc(rows)
