"""Why a chat can't be answered as it was asked."""

from longjing.errors import UserError


class InvalidRequest(UserError):
    """A request that can't be honoured. `parameter`: the field that is to blame, if it is one; `code`: OpenAI's."""

    def __init__(self, message: str, parameter: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.parameter, self.code = parameter, code


def invalid(parameter: str, text: str) -> InvalidRequest:
    """The refusal that begins with the parameter to blame."""
    return InvalidRequest(f"{parameter}: {text}", parameter)


def context_exceeded(limit: int, tokens: str, parameter: str) -> InvalidRequest:
    """The refusal of a prompt that leaves no room, in the words that OpenAI's clients look for."""
    return InvalidRequest(
        f"This model's maximum context length is {limit} tokens. However, your {parameter} resulted in {tokens} "
        f"tokens, which leaves no room for a reply. Please reduce the length of the {parameter}.",
        parameter, "context_length_exceeded",
    )  # fmt: skip
