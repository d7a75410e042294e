"""Full precision inside of autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def autocast_disabled(device_type: str) -> AbstractContextManager:
    """Switch autocast off for a block; devices without autocast, such as ``meta``, need nothing."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def autocast_enabled(device_type: str) -> bool:
    """Whether autocast is on for a kind of device, False for kinds that have none (meta)."""
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def full_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of sums and angles: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def in_full(x: Tensor) -> Tensor:
    """A tensor in float32 at least; itself if it is."""
    return x.to(full_dtype(x.dtype))


def in_full_precision(attention: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Run ``attention(q, k, v, ...)`` in float32 at least, under any autocast.

    Sums of products leave the range of float16 long before what is made of them does. The result
    has the type of v.
    """

    @functools.wraps(attention)
    def promoted(q: Tensor, k: Tensor, v: Tensor, *args, **kwargs) -> Tensor:
        with autocast_disabled(q.device.type):
            return attention(*map(in_full, (q, k, v)), *args, **kwargs).to(v.dtype)

    return promoted
