"""Every test runs on the CPU and, where there is one, on a CUDA device."""

import sys

import pytest
import torch

from mmeffvit.compat.mmcv_ops.module import StandIns

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def _stand_ins():
    if not isinstance(sys.modules.get("mmcv._ext"), StandIns):
        pytest.skip("mmcv has its compiled operators here, which are left alone")
