"""Which models the page lets people choose: what is served, what is shipped, and what runs have made."""

from pathlib import Path

from longjing.errors import UserError
from longjing.model.files import resolve, shipped
from longjing.serving.page.runs import Runs
from longjing.serving.service import Service


class Choices:
    """The models that may be asked for by name. `folder`: where runs lie. Nothing else is ever loaded for the page."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service, self._folder = service, folder

    def names(self) -> list[str]:
        """What is served first, the default one at the top."""
        known = [*self._service.models, *(f"longjing-{name}" for name in shipped())]
        runs = [str(run) for run in Runs(self._folder).paths() if _has_model(run)]
        return list(dict.fromkeys(known + runs))

    def load_name(self, name: str) -> str:
        """What `Service.load` knows a choice as. Raises UserError for what is none."""
        if name not in self.names():
            raise UserError(f"{name!r} is no model of this page; reload it to see those that are")
        return name if name in self._service.models else name.removeprefix("longjing-")


def _has_model(run: Path) -> bool:
    try:
        return (resolve(run) / "config.json").exists()
    except UserError:
        return False
