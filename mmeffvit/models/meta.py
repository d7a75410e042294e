"""Building and running networks without memory for their weights."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_PLAIN = (int, float, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))


class TablesOnCpu(TorchFunctionMode):
    """Within a meta device: numbers that a constructor reads stay on the CPU.

    Such as the drop-path rates that transformers take from a ``torch.linspace``.
    """

    _factories = (torch.linspace, torch.arange, torch.tensor)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in self._factories:
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


class RememberedShapes(TorchDispatchMode):
    """While entered, operators on ``meta`` tensors of shapes that were seen before return at once.

    There most operators of PyTorch are Python, which goes through sizes, types and strides step by
    step: a LayerNorm takes milliseconds, and all blocks of a stage call it with the same shapes.
    Only operators that make new tensors are remembered; views and changes in place run as ever.
    """

    def __init__(self):
        super().__init__()
        self._results: dict[Hashable, Any] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not _makes_new_tensors(func):
            return func(*args, **kwargs)
        try:
            key = (func, _described(args), *map(_described, kwargs.items()))
        except _OtherError:
            return func(*args, **kwargs)
        if key in self._results:
            return _empty(self._results[key])
        result = func(*args, **kwargs)
        with suppress(_OtherError):
            self._results[key] = _described(result)
        return result


class _OtherError(Exception):
    """An operand is more than a shape, a type or a plain value."""


class _Layout(tuple):
    """Shape, strides and type of a tensor."""


@functools.cache
def _makes_new_tensors(func: Any) -> bool:
    if not isinstance(func, torch._ops.OpOverload):
        return False
    schema = func._schema
    return not schema.is_mutable and all(
        isinstance(value.type, torch.TensorType) and value.alias_info is None
        for value in schema.returns
    )


def _described(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        if not value.is_meta:
            raise _OtherError
        return _Layout((tuple(value.shape), value.stride(), value.dtype))
    if isinstance(value, tuple | list):
        return tuple(map(_described, value))
    if not isinstance(value, _PLAIN):
        raise _OtherError
    return type(value), value  # 1, 1.0 and True are equal, and not alike


def _empty(described: Any) -> Any:
    if not isinstance(described, _Layout):
        return tuple(map(_empty, described))
    shape, stride, dtype = described
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")
