"""Recomputed blocks under autocast with drop path: nothing changes by a single bit.

The contract tests see it in float32.
"""

import pytest
import torch

from .tiny import ARCHS, build_tiny


@pytest.mark.parametrize("name", ARCHS)
def test_outputs_and_gradients_are_equal(name):
    results = []
    for with_cp in (False, True):
        backbone = build_tiny(name, drop_path_rate=0.5, with_cp=with_cp).train()
        torch.manual_seed(1)
        x = torch.randn(3, 3, 64, 80)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outs = backbone(x)
            loss = sum(out.float().square().sum() for out in outs)
        loss.backward()
        results.append([*outs, *(p.grad for p in backbone.parameters())])
    for plain, recomputed in zip(*results, strict=True):
        assert torch.equal(plain, recomputed)
