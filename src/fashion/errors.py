"""The one exception that reaches a user as a sentence instead of a stack trace."""


class FashionError(Exception):
    """A mistake the user can mend; its message is one sentence that says how."""


class BusyError(FashionError):
    """Another process is writing there; what was asked for is right, and can be tried again."""
