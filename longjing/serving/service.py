"""The models that are served, and those that are loaded for a while."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from longjing.generation.factory import make_generator
from longjing.model.device import choose_device, choose_dtype
from longjing.planning.bill import Prices
from longjing.runs.models import load, weights_path
from longjing.runs.resolve import shipped
from longjing.serving.error_responses import ModelNotFound
from longjing.serving.response_stream import Job
from longjing.serving.served_model import ServedModel
from longjing.serving.worker import EngineWorker
from longjing.text import Tokenizer


@dataclass(frozen=True)
class EngineLimits:
    """What one model's engine may use. `queue`: requests that wait beyond `rows` that run; `threads`: of the CPU;
    `batch_invariant` as in `Engine`; `repetition_guard` as in `ServedModel`."""

    rows: int = 256
    queue: int = 256
    cache_bytes: int = 1 << 30
    prefix_bytes: int = 1 << 28
    threads: int | None = None
    batch_invariant: bool | None = None
    repetition_guard: bool | None = None


class Service:
    """All models that are served, the default one first. More can be loaded while it runs."""

    def __init__(self, device: str = "auto", dtype: str = "float32", limits: EngineLimits | None = None) -> None:
        self._device, self._dtype, self._limits = device, dtype, limits or EngineLimits()
        self.on_end: Callable[[str, Job], None] = lambda name, job: None  # in an engine's thread
        self.models: Mapping[str, ServedModel] = {}  # another one each time, for others may be reading it
        self._private: tuple[ServedModel, ...] = ()
        self._closed = False
        self._loading = threading.Lock()
        self.prices = Prices()

    def load(self, name_or_path: str, name: str | None = None) -> ServedModel:
        """Serve one more model, called `name` if that is given; the one that is there already if it is. Raises
        UserError."""
        name = name or (f"longjing-{name_or_path}" if name_or_path in shipped() else name_or_path)
        with self._loading:
            if name in self.models:
                return self.models[name]
            return self._serve(self._read(name, name_or_path))

    def serve(self, name: str, model: Any, tokenizer: Tokenizer) -> ServedModel:
        """Serve a model that is loaded already."""
        return self._serve(self._start(name, model, tokenizer))

    def _serve(self, served: ServedModel) -> ServedModel:
        self.models = {**self.models, served.name: served}
        return served

    def load_private(self, name_or_path: str) -> ServedModel:
        """Load a model that isn't served to everybody, until `unload`. Raises UserError."""
        with self._loading:
            served = self._read(name_or_path, name_or_path)
            self._private = (*self._private, served)
            return served

    def unload(self, served: ServedModel) -> None:
        """Free what `load_private` has loaded."""
        with self._loading:
            self._private = tuple(model for model in self._private if model is not served)
        served.worker.close()

    def _read(self, name: str, name_or_path: str) -> ServedModel:
        """A model from the disk. Weights that one has already aren't read again: adapters share their base."""
        loaded = {served.weights: served.engine.model for served in self._all() if served.weights is not None}
        device = choose_device(self._device)
        dtype: torch.dtype | Literal["auto"] = "auto"
        if self._dtype != "auto":
            dtype = choose_dtype(self._dtype, device)
        model, tokenizer = load(name_or_path, device, dtype, loaded)
        return self._start(name, model, tokenizer, weights_path(name_or_path))

    def _start(self, name: str, model: Any, tokenizer: Tokenizer, weights: Path | None = None) -> ServedModel:
        limits = self._limits
        engine = make_generator(
            model, tokenizer, cache_bytes=limits.cache_bytes, max_batch=limits.rows, speculate="auto",
            prefix_bytes=limits.prefix_bytes, threads=limits.threads, batch_invariant=limits.batch_invariant,
        )  # fmt: skip
        worker = EngineWorker(engine, limits.queue, lambda job: self.on_end(name, job))
        if self._closed:
            worker.stop_accepting()
        return ServedModel(name, engine, tokenizer, worker, limits.repetition_guard, weights=weights)

    def _all(self) -> Iterable[ServedModel]:
        return (*self.models.values(), *self._private)

    def find(self, name: str | None) -> ServedModel:
        """The model of a name, with or without `longjing-`; the default one for None. Raises ModelNotFound."""
        if name is None:
            return next(iter(self.models.values()))
        model = self.models.get(name) or self.models.get(f"longjing-{name}")
        if model is None:
            raise ModelNotFound(f"no model {name!r}; served are {', '.join(self.models)}")
        return model

    def stop_accepting(self) -> None:
        """Take no more requests."""
        self._closed = True
        for served in self._all():
            served.worker.stop_accepting()

    def dismiss_waiting(self) -> None:
        """Tell those that they come too late whose requests haven't begun to run."""
        for served in self._all():
            served.worker.dismiss_waiting()

    def abort(self) -> None:
        """Tell everybody else that what runs won't be finished."""
        for served in self._all():
            served.worker.abort()

    def close(self) -> None:
        """Take no more requests, break off what runs, leave."""
        self.stop_accepting()
        for served in self._all():
            served.worker.close()
