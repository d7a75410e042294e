"""Errors that people read, and words for them."""

from __future__ import annotations

import difflib
import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or is not what was asked for; the message says what to do."""


def did_you_mean(given: str, allowed: Iterable[str], most: int = 1) -> str:
    """``; did you mean 'tiny'?`` where an allowed name is close to the one given, else ''.

    Args:
        given: What somebody wrote.
        allowed: What there is.
        most: How many suggestions at most.
    """
    close = difflib.get_close_matches(given, list(allowed), n=most)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def renamed_argument(old: str, new: str) -> Callable[[Callable], Callable]:
    """Decorate a function so that a keyword is also found under its old name, for a release.

    Args:
        old: The name before.
        new: The name now.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                warnings.warn(
                    f"{function.__name__}({old}=...) is now {new}=...; the old name goes in the "
                    "next release",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
