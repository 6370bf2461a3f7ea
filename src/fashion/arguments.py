"""Arguments that come from a configuration: one of a wrong type is a sentence, not a stack trace."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError, validate_call

from fashion.errors import FashionError

AnyCallable = TypeVar("AnyCallable", bound=Callable[..., Any])


def checked(prefix: str) -> Callable[[AnyCallable], AnyCallable]:
    """A decorator: checks the arguments' types (numbers may be given as text), and raises FashionError.

    Args:
        prefix: of the keys that the arguments come from, for the sentence.
    """
    settings = ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True)

    def wrap(function: AnyCallable) -> AnyCallable:
        names = list(inspect.signature(function).parameters)
        valid = validate_call(config=settings)(function)

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            try:
                return valid(*arguments, **options)
            except ValidationError as error:
                first = error.errors()[0]
                name = first["loc"][0]
                key = f"{prefix}.{names[name] if isinstance(name, int) else name}"
                given = "" if first["type"].startswith("missing") else f" is {first['input']!r}"
                raise FashionError(f"{key}{given}: {first['msg']}.") from None

        return cast(AnyCallable, call)

    return wrap


def check_types(prefix: str, function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Check values against the types that a library's function annotates, which not every library does itself.

    Raises:
        FashionError: naming the first that is not.
    """
    hints = get_type_hints(function)
    for name in [name for name in values if name in hints]:
        kind: TypeAdapter[Any] = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True))
        try:
            kind.validate_python(values[name], strict=True)
        except ValidationError as error:
            wrong = "; or ".join(dict.fromkeys(one["msg"] for one in error.errors()))  # of each type that it may have
            raise FashionError(f"{prefix}.{name} is {values[name]!r}: {wrong}.") from None
