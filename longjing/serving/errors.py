"""Why a request gets no answer."""


class Refused(Exception):
    """It can't be honoured. `parameter`: the field that is to blame, if it is one; `code`: OpenAI's."""

    def __init__(self, message: str, parameter: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.parameter, self.code = parameter, code


class Busy(Exception):
    """The queue is full. `retry_after`: seconds until there may be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in about {retry_after} s")
        self.retry_after = retry_after


class Closed(Exception):
    """No more requests are taken: the server is about to leave, or its engine broke."""
