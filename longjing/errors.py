"""The one exception whose message is meant for the person at the keyboard."""


class UserError(ValueError):
    """Bad input or an impossible request: the message says what was wrong, where, and what to do.

    The command line prints the message and exits with code 2; anything else is a defect and shows its traceback.
    Being a ValueError, it may pass through a pydantic validator, which reports it with the setting's place. Code that
    catches ValueError around what may refuse catches UserError first.
    """
