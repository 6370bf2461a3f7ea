"""Arguments that come from a configuration: one of another type than annotated is a sentence, not Python's words."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, ValidationError, validate_call

from fashion.errors import FashionError

AnyCallable = TypeVar("AnyCallable", bound=Callable[..., Any])


def checked(prefix: str) -> Callable[[AnyCallable], AnyCallable]:
    """A decorator: what is annotated as a number may be its text, and what is none raises FashionError.

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
