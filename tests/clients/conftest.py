"""The servers of the serving room's tests, for real clients. Clients that are not installed are skipped."""

import importlib.util
import sys
from pathlib import Path

_path = Path(__file__).parents[1] / "serving" / "conftest.py"
_spec = importlib.util.spec_from_file_location("serving_conftest", _path)
assert _spec and _spec.loader
_servers = sys.modules["serving_conftest"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_servers)
# All its names: a test beside that file may be given this one as `conftest`.
globals().update({name: value for name, value in vars(_servers).items() if not name.startswith("__")})
