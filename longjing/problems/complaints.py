"""What is wrong with settings, in one line, and the name that may have been meant."""

from difflib import get_close_matches

from pydantic import BaseModel, ValidationError


def complaint(error: ValidationError, settings_type: type[BaseModel]) -> str:
    """What is wrong with the settings, in one line, an unknown one first."""
    first = min(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    setting = ".".join(map(str, first["loc"]))
    known = [field.alias or name for name, field in settings_type.model_fields.items()]
    if first["type"] == "extra_forbidden":
        return (
            f"no setting {setting!r}{nearest(setting, known)}; the settings are: {', '.join(known) or 'none'}"
        )
    if first["type"] == "missing":
        return f"the setting {setting!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"setting {setting!r} is {first['input']!r}: {message}" if setting else message


def nearest(word: str, known: list[str]) -> str:
    found = get_close_matches(word, known, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
