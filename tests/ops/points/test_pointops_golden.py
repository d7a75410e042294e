from pathlib import Path

import numpy as np
import pytest
import torch

from mmeffvit.testing import TOLERANCES, check_golden
from mmeffvit.testing.families import pointops

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "pointops.npz"


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_published_operators(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    errors = check_golden(GOLDEN)
    assert len(errors) == 24
    assert {name: e for name, e in errors.items() if not e <= TOLERANCES["pointops"]} == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_results_on_a_gpu():
    with np.load(GOLDEN) as file:
        tensors = {k: torch.from_numpy(file[k]) for k in file.files if k != "meta"}
    on_gpu = pointops.check({}, {k: v.cuda() for k, v in tensors.items()})
    for name, value in pointops.check({}, tensors).items():
        torch.testing.assert_close(on_gpu[name].cpu(), value, rtol=1e-5, atol=1e-5)
