"""Units of measurement and money by all their spellings. Nothing is converted: 5 cm isn't 0.05 m, and m isn't ms."""

import json
import re
from functools import lru_cache
from pathlib import Path

Unit = tuple[tuple[str, int], ...]  # names and powers: km/h is (("h", -1), ("km", 1))

# bases: by symbol the names, and the prefixes in use; spellings: by name all that no prefix and no plural makes;
# counted: what is counted, said or not; two of them differ.
_TABLES = json.loads(Path(__file__).with_name("units.json").read_text("utf-8"))
_COMPOSED: dict[str, dict[str, int]] = _TABLES["composed"]
COUNTED = frozenset(_TABLES["counted"])
SCALES: dict[str, int] = _TABLES["scales"]
_EITHER, _POWERS, _AFTER = _TABLES["either"], _TABLES["powers"], _TABLES["powers_after"]
_TOKEN = re.compile(
    r"\^ ?\{? ?(-?\d)(?: ?\})?|(/|per\b|每)|(\\cdot|\*|\.|\\times|\s+|[{}]|\\text)|"
    r"(° ?(?:[CF]\b)?|\\\$|US\$|[$€£¥₹₽₩¢%]|[A-Za-zμΩ-]+|[\u4e00-\u9fff円]+)(\d(?!\d))?"
)


def _table() -> dict[str, str]:
    table = {spelled: name for name, spellings in _TABLES["spellings"].items() for spelled in spellings.split()}
    for symbol, (names, prefixes) in _TABLES["bases"].items():
        for prefix in ["", *prefixes]:
            prefix_name = _TABLES["prefixes"].get(prefix, "")
            table.setdefault(prefix + symbol, prefix + symbol)
            for name in names.split():
                for spelled in (prefix_name + name, prefix_name + name + "s"):
                    table.setdefault(spelled, prefix + symbol)
    return table


_UNITS = _table()


@lru_cache(maxsize=4096)
def read_unit(text: str) -> Unit | None:
    """The unit that all of the text names, as `km/h`, `\\text{ meters per second}` and `m^2`; None if it is none."""
    powers: dict[str, int] = {}
    position, sign, next_power, last = 0, 1, 1, None
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        position = match.end()
        power, per, between, name, digit = match.groups()
        if power is not None:
            if last is None:
                return None
            powers[last] += (int(power) - 1) * (1 if powers[last] > 0 else -1)
        elif per is not None:
            if sign < 0:
                return None  # what a/b/c says, nobody agrees on
            sign = -1
        elif between is None:
            name = name.replace(" ", "")
            lower = name.casefold()
            if lower in _POWERS:
                next_power = _POWERS[lower]
                continue
            if lower in _AFTER and last is not None:
                powers[last] *= _AFTER[lower]
                continue
            parts = _named(name)
            if parts is None:
                return None
            if set(parts) in ({"°C"}, {"°F"}) and set(powers) == {"°"}:  # degrees Celsius
                powers.clear()
            for part, times in parts.items():
                powers[part] = powers.get(part, 0) + sign * times * next_power * int(digit or 1)
                last = part
            next_power = 1
    return tuple(sorted((name, power) for name, power in powers.items() if power)) or None


def _named(name: str) -> dict[str, int] | None:
    if name in _COMPOSED:
        return _COMPOSED[name]
    # Case tells mW from MW, and m from M; of a word it says nothing.
    match = _UNITS.get(name) or (_UNITS.get(name.casefold()) if len(name) > 3 else None)
    return None if match is None else {match: 1}


def agree(one: Unit, other: Unit) -> bool:
    """Whether they are the same unit; a pound may be a weight or money, and ¥ of either country."""
    if one == other:
        return True
    if len(one) != 1 or len(other) != 1:
        return False
    (name, power), (second, also) = one[0], other[0]
    return power == also and (second in _EITHER.get(name, ()) or name in _EITHER.get(second, ()))
