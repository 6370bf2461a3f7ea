"""The one exception that reaches a user as a sentence instead of a stack trace."""


class FashionError(Exception):
    """A mistake the user can mend; its message is one sentence that says how."""
