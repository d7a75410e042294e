"""Shared set-up: stand-ins before mmcv is imported, one thread per worker, no stray state."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch

from mmeffvit import compat

compat.setup()
torch.set_num_threads(
    max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))
)


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    yield
    assert torch.is_grad_enabled(), "the test left gradients switched off"
