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


def in_full_precision(attention: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Run ``attention(q, k, v, ...)`` in float32 at least, under any autocast.

    Sums of products leave the range of float16 long before what is made of them does. The result
    has the type of v.
    """

    @functools.wraps(attention)
    def promoted(q: Tensor, k: Tensor, v: Tensor, *args, **kwargs) -> Tensor:
        full = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (q, k, v))
        with autocast_disabled(q.device.type):
            return attention(*full, *args, **kwargs).to(v.dtype)

    return promoted
