"""What the server did and does, for Prometheus."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from longjing.serving.response_stream import Job
from longjing.serving.served_model import ServedModel
from longjing.serving.service import Service

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_PER_TOKEN = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)


class Metrics(Collector):
    """The measurements of the models of a service, which tells of each job that has ended."""

    def __init__(self, service: Service) -> None:
        self._registry, self._service = CollectorRegistry(), service
        self._registry.register(self)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"longjing_{name}", text, labels, registry=self._registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"longjing_{name}", text, ["model"], buckets=buckets, registry=self._registry)

        self.requests = counter("requests", "HTTP requests to the API, by their end", "path", "status")
        self._prompt = counter("prompt_tokens", "tokens of prompts", "model")
        self._sampled = counter("sampled_tokens", "tokens sampled, reasoning included", "model")
        self._reasoning = counter("reasoning_tokens", "tokens of reasoning", "model")
        self._first = histogram("first_token_seconds", "from a request to its first token", _SECONDS)
        self._per_token = histogram("token_seconds", "between a completion's tokens, on average", _PER_TOKEN)
        self._whole = histogram("completion_seconds", "from a request to its end", _SECONDS)
        service.on_end = self._ended

    def _ended(self, model: str, job: Job) -> None:
        """Count a completion."""
        self._prompt.labels(model).inc(len(job.request.prompt))
        self._sampled.labels(model).inc(job.count)
        self._reasoning.labels(model).inc(job.controller.reasoning_tokens if job.controller else 0)
        if job.ended is not None and job.first is not None:
            self._first.labels(model).observe(job.first - job.submitted)
            self._whole.labels(model).observe(job.ended - job.submitted)
            if job.count > 1:
                self._per_token.labels(model).observe((job.ended - job.first) / (job.count - 1))

    def text(self) -> bytes:
        """All of it in Prometheus's form."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The gauges, for the registry."""

        def gauge(name: str, text: str, value: Callable[[ServedModel], int]) -> Metric:
            family = GaugeMetricFamily(f"longjing_{name}", text, labels=["model"])
            for label, model in self._service.models.items():
                family.add_metric([label], value(model))
            return family

        yield gauge("requests_open", "completions that wait or run", lambda model: model.worker.load)
        text = "tokens in the engine's cache, of completions that run"
        yield gauge("cache_tokens", text, lambda model: model.engine.memory_in_use)
        text = "tokens of prompts that were not read again"
        yield gauge("reused_tokens", text, lambda model: model.engine.stats.tokens_reused)
