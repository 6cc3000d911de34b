"""``/metrics`` in Prometheus' text format, read from the tables when it is asked for.

Every process answers alike, because the rows are the truth; nothing is counted in memory.
"""

from collections.abc import Iterator

from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from moderation.models import TriageJob
from moderation.selectors import operations as read

# Known before they first happen, so that a rate over them is never undefined.
COUNTERS = {
    "lease_expiries": "Leases that ran out because a worker died or hung.",
    "late_answers": "Answers refused because the worker had lost its lease by then.",
}
QUANTILES = (0.5, 0.95, 0.99)


def metrics() -> bytes:
    """Return every measure, in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(HouseCollector())
    return generate_latest(registry)


class HouseCollector(Collector):
    """Reads the tables once for each scrape."""

    def collect(self) -> Iterator[Metric]:
        """Yield every measure."""
        yield from self._jobs()
        yield from self._probes()
        yield from self._people()
        yield from self._outboxes()
        yield from self._processes()

    def _jobs(self) -> Iterator[Metric]:
        now = timezone.now()
        depth = _gauge("jobs", "Unfinished triage jobs.", "stage", "state")
        age = _gauge("oldest_due_job_seconds", "How long the oldest due job has waited.", "stage")
        tried = _gauge("job_attempts", "Attempts that unfinished jobs have had.", "stage")
        # An autoscaler that is told nothing scales nothing down.
        waiting = dict.fromkeys(TriageJob.Stage.values, 0.0)
        attempted = dict.fromkeys(TriageJob.Stage.values, 0)
        for row in read.open_jobs():
            depth.add_metric([row["stage"], row["state"]], row["number"])
            attempted[row["stage"]] += row["tried"] or 0
            if row["state"] == "queued":
                waited = (now - row["oldest"]).total_seconds()
                waiting[row["stage"]] = max(waited, 0)
        for stage, waited in waiting.items():
            age.add_metric([stage], waited)
            tried.add_metric([stage], attempted[stage])
        ended = _gauge("jobs_ended_last_hour", "Jobs that ended.", "stage", "state")
        attempts = _gauge("job_attempts_last_hour", "Attempts they took.", "stage", "state")
        for row in read.finished_jobs():
            ended.add_metric([row["stage"], row["state"]], row["number"])
            attempts.add_metric([row["stage"], row["state"]], row["tried"] or 0)
        yield from (depth, age, tried, ended, attempts)
        counted = read.counters()
        for name, says in COUNTERS.items():
            yield CounterMetricFamily(f"weighhouse_{name}", says, value=counted.get(name, 0))

    def _probes(self) -> Iterator[Metric]:
        spent = _gauge(
            "probe_seconds", "How long a probe took in the last jobs.", "probe", "quantile"
        )
        runs = SummaryMetricFamily(
            "weighhouse_probe_runs_recent", "Runs of a probe among the last jobs.", labels=["probe"]
        )
        for probe, seconds in sorted(read.probe_times().items()):
            ordered = sorted(seconds)
            for quantile in QUANTILES:
                at = min(int(quantile * len(ordered)), len(ordered) - 1)
                spent.add_metric([probe, str(quantile)], ordered[at])
            runs.add_metric([probe], count_value=len(ordered), sum_value=sum(ordered))
        failed = _gauge("probe_failures_recent", "Failed findings among the last jobs.", "probe")
        for probe, number in read.probe_failures().items():
            failed.add_metric([probe], number)
        yield from (spent, runs, failed)

    def _people(self) -> Iterator[Metric]:
        now = timezone.now()
        depth = _gauge("cases_waiting", "Cases that wait for a person.", "source")
        age = _gauge("oldest_case_seconds", "How long the oldest of them has waited.", "source")
        late = _gauge("deadline_breaches", "Waiting cases past their deadline.", "source")
        for row in read.waiting_cases():
            depth.add_metric([row["source"]], row["number"])
            age.add_metric([row["source"]], (now - row["oldest"]).total_seconds())
            late.add_metric([row["source"]], row["breached"])
        decisions = _gauge("decisions_last_hour", "Decisions by action.", "action")
        for action, number in read.recent_decisions().items():
            decisions.add_metric([action], number)
        appeals = _gauge("appeals_last_hour", "Appeals filed, and answered how.", "outcome")
        for outcome, number in read.recent_appeals().items():
            appeals.add_metric([outcome], number)
        notices = _gauge("notices_undelivered", "E-mails not delivered.", "state")
        for state, number in read.undelivered_notices().items():
            notices.add_metric([state], number)
        yield from (depth, age, late, decisions, appeals, notices)

    def _outboxes(self) -> Iterator[Metric]:
        now = timezone.now()
        age = _gauge(
            "oldest_due_delivery_seconds",
            "How long the oldest has waited of what is due to be sent, fetched or enforced.",
            "outbox",
        )
        for outbox, since in read.oldest_due_deliveries().items():
            age.add_metric([outbox], max((now - since).total_seconds(), 0) if since else 0)
        yield age

    def _processes(self) -> Iterator[Metric]:
        now = timezone.now()
        silent = _gauge(
            "heartbeat_age_seconds", "How long a process has been silent.", "process", "kind"
        )
        for name, kind, seen in read.heartbeats():
            silent.add_metric([name, kind], (now - seen).total_seconds())
        yield silent


def _gauge(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"weighhouse_{name}", says, labels=labels)
