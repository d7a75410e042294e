"""The switch that keeps from fetching anything, for the downloads of other libraries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from mmeffvit.models.weights import OFFLINE, is_offline


@contextmanager
def fetching_if_allowed() -> Iterator[None]:
    """Let libraries read their caches alone while `MMEFFVIT_OFFLINE` or `HF_HUB_OFFLINE` is set.

    huggingface_hub reads its variable once, when it is imported, and torch.hub, which torchvision
    and timm download with, has none.
    """
    if not is_offline():
        yield
        return

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(f"{' or '.join(OFFLINE)} says that nothing is to be fetched")

    changes: list[tuple[Any, str, Any]] = [(torch.hub, "urlopen", refuse)]
    try:
        constants = import_module("huggingface_hub.constants")
        changes.append((constants, "HF_HUB_OFFLINE", True))
    except ModuleNotFoundError:  # not needed for torchvision
        pass
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
