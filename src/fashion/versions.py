"""Which versions of which packages something was made with."""

from importlib.metadata import PackageNotFoundError, version


def versions(*names: str) -> dict[str, str]:
    """name → version, "unknown" for what is only on the path: a copy that nobody installed, say."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
