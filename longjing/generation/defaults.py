"""How a model's makers sample it: the settings of its generation_config.json, or of a GGUF file, for requests that say
nothing."""

from dataclasses import dataclass, fields
from typing import Any, Self

from longjing.errors import UserError
from longjing.generation.request import Sampling


@dataclass(frozen=True)
class SamplingDefaults:
    """Under the names of generation_config.json; None is for what it leaves out. `do_sample` isn't asked: who wants the
    likeliest tokens gives the temperature 0."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None

    @classmethod
    def of(cls, generation_config: dict[str, Any]) -> Self:
        """Those of a model (`Decoder.generation_config`). Raises UserError for one that is out of range."""
        names = {field.name for field in fields(cls)}
        values = {name: value for name, value in generation_config.items() if name in names and value is not None}
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int if "int" in _TYPES[name] else int | float):
                raise UserError(f"generation_config.json: {name} = {value!r} is no number")
        try:
            defaults = cls(**values)
            defaults.sampling()
        except UserError as error:
            raise UserError(f"generation_config.json: {error}") from None
        return defaults

    def sampling(self, **instead: Any) -> Sampling:
        """The settings as a `Sampling`, with others in their places where those aren't None."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        values |= {name: value for name, value in instead.items() if value is not None}
        if "max_new_tokens" in values:
            values.setdefault("max_tokens", values.pop("max_new_tokens"))
        return Sampling(**values)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in vars(self).items() if value is not None)


_TYPES = {field.name: str(field.type) for field in fields(SamplingDefaults)}
