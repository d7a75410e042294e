"""Building networks without memory for their weights."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode


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
