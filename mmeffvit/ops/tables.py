"""Tables that depend on sizes alone: built once, and serve training whoever asked first."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def build_table(build: Callable[..., T], *args) -> T:
    """Call ``build``; tensors made under ``inference_mode`` could not be used for training."""
    with torch.inference_mode(False), torch.no_grad():
        return build(*args)


def cached_table(maxsize: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Decorate a function that builds a table: what it returns is kept by its arguments.

    While a graph is traced nothing is kept: a tensor would be a fake one that outlives the trace.

    Args:
        maxsize: Tables that are kept, the least recently used dropped first.
    """

    def decorate(build: Callable[..., T]) -> Callable[..., T]:
        cached = functools.lru_cache(maxsize)(functools.partial(build_table, build))

        @functools.wraps(build)
        def table(*args) -> T:
            return build(*args) if torch.compiler.is_compiling() else cached(*args)

        return table

    return decorate
