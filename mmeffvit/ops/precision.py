"""Full precision inside of autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast_disabled(device_type: str) -> AbstractContextManager:
    """Switch autocast off for a block; devices without autocast, such as ``meta``, need nothing."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def autocast_enabled(device_type: str) -> bool:
    """Whether autocast is on for a kind of device, False for kinds that have none (meta)."""
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
