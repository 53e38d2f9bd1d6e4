"""The data sets of reasoning-gym, and its scorers."""

import json
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from importlib import import_module
from typing import Any

from . import text_digest


def scorer() -> Callable[..., Any]:
    """["settings", data set]: the names of its settings. ["make", data set, configuration as JSON, first, number]:
    entries, each with question, answer and source. ["metadata", data set, configuration, index of the entry]: what the
    library notes beside it. ["score", data set, configuration, index of the entry, digest of its
    question, answer]: the score, None if the scorer can't read the answer.

    Raises ValueError if the entry isn't that of the question.
    """
    library = import_module("reasoning_gym")

    @lru_cache(maxsize=64)
    def dataset(name: str, configuration: str) -> Any:
        settings_given = json.loads(configuration)
        if name == "composite":
            settings_given["datasets"] = [library.composite.DatasetSpec(**spec) for spec in settings_given["datasets"]]
        return library.create_dataset(name, **settings_given)

    @lru_cache(maxsize=4096)
    def entry(name: str, configuration: str, index: int) -> Any:
        return dataset(name, configuration)[index]

    def settings(name: str) -> list[str]:
        return [field.name for field in fields(library.factory.DATASETS[name][1])]

    def make(name: str, configuration: str, first: int, number: int) -> list[tuple[str, str, str]]:
        made = [entry(name, configuration, index) for index in range(first, first + number)]
        return [
            (str(each["question"]), "" if each["answer"] is None else str(each["answer"]),
             each["metadata"].get("source_dataset", name)) for each in made
        ]  # fmt: skip

    def metadata(name: str, configuration: str, index: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(entry(name, configuration, index)["metadata"], default=str))
        return found

    def score(name: str, configuration: str, index: int, question: str, answer: str) -> float | None:
        made = entry(name, configuration, index)
        if text_digest(str(made["question"])) != question:
            raise ValueError(f"entry {index} of {name} comes out differently here")
        try:
            return float(dataset(name, configuration).score_answer(answer, made))
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
            return None

    works: dict[str, Callable[..., Any]] = {"settings": settings, "make": make, "metadata": metadata, "score": score}
    return lambda what, *settings_given: works[what](*settings_given)
