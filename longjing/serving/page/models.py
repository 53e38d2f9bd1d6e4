"""Which models the page lets people choose: what is served, what is shipped, and what runs have made."""

from pathlib import Path

from longjing.errors import UserError
from longjing.model.files import resolve, shipped
from longjing.serving.service import Service

_DEEPEST = 2  # folders between the given one and a run


class Choices:
    """The models that may be asked for by name. `folder`: where runs lie. Nothing else is ever loaded for the page."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service, self._folder = service, folder

    def names(self) -> list[str]:
        """What is served first, the default one at the top."""
        known = [*self._service.models, *(f"longjing-{name}" for name in shipped())]
        runs = [str(run) for run in runs_under(self._folder) if _has_model(run)]
        return list(dict.fromkeys(known + runs))

    def load_name(self, name: str) -> str:
        """What `Service.load` knows a choice as. Raises UserError for what is none."""
        if name not in self.names():
            raise UserError(f"{name!r} is no model of this page; reload it to see those that are")
        return name if name in self._service.models else name.removeprefix("longjing-")


def runs_under(folder: Path) -> list[Path]:
    """The run directories under a folder, the one that was touched last first."""
    depths = ("*/" * depth + "recipe.yaml" for depth in range(_DEEPEST + 1))
    recipes = {path for pattern in depths for path in folder.glob(pattern)} if folder.is_dir() else set()
    return [path.parent for path in sorted(recipes, key=lambda path: path.stat().st_mtime, reverse=True)]


def _has_model(run: Path) -> bool:
    try:
        return (resolve(run) / "config.json").exists()
    except UserError:
        return False
