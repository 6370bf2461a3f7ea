"""The exceptions that reach a user as a sentence instead of a stack trace."""

from traceback import walk_tb


class FashionError(Exception):
    """A mistake the user can mend; its message is one sentence that says how."""


class OutageError(FashionError):
    """A disk or a service does not do its part; what was asked for is right, and can be tried again once it does."""


class CatalogError(OutageError):
    """A catalogue that cannot be read: it is gone, damaged, or of another version of this software."""


class OtherModelError(FashionError):
    """What is there was made by another model than the one at hand."""


class BusyError(FashionError):
    """Another process is writing there; what was asked for is right, and can be tried again."""


def raised_in(error: Exception) -> str:
    """The package whose code raised it."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0]
