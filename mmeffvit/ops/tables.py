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


def refuse_jit_trace() -> None:
    """Raise RuntimeError under ``torch.jit.trace``, which would keep the tables of one size."""
    if torch.jit.is_tracing():
        raise RuntimeError(
            "torch.jit.trace records what is done for one image size, and this network makes "
            "tables by the size of its maps: use torch.export.export(network, (image,)), with "
            "dynamic_shapes for other sizes, or tools/export_onnx.py (docs/deployment.md)"
        )


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
            if torch.compiler.is_compiling():
                return build(*args)
            refuse_jit_trace()
            return cached(*args)

        return table

    return decorate
