"""Whether results on a device are those of a CPU: golden files, and operators with gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from mmeffvit.analysis.gpu_report.run import Value
from mmeffvit.ops import (
    ManhattanDecay,
    decay_rates,
    manhattan_attention,
    neighbourhood_attention,
    polyline_attention,
    sec_attention,
)
from mmeffvit.testing import relative_rms_error
from mmeffvit.testing.golden import TOLERANCES, golden_errors, golden_family

#: relative RMS error that is allowed, by type
LIMITS = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 3e-2}

_HEADS, _HEAD_DIM = 4, 32
_Attention = Callable[[Tensor, Tensor, Tensor, tuple[int, int], str], Tensor]


def golden(path: Path, device: str) -> Iterator[Value]:
    """The largest error of all outputs of a golden file, computed on a device in float32."""
    errors = golden_errors(path, device)
    # other devices sum in another order: ten times the tolerance of a CPU
    yield Value("largest error", max(errors.values()), "", 10 * TOLERANCES[golden_family(path)])


def _manhattan(q, k, v, size, implementation, decomposed=False):
    decay = ManhattanDecay(*size, decay_rates(_HEADS), q.device)
    return manhattan_attention(q, k, v, decay, decomposed=decomposed, implementation=implementation)


def _decomposed(q, k, v, size, implementation):
    return _manhattan(q, k, v, size, implementation, decomposed=True)


def _neighbourhood(q, k, v, size, implementation):
    q, k, v = (t.unflatten(1, size) for t in (q, k, v))
    return neighbourhood_attention(q, k, v, 5, (1, 2), implementation=implementation)


def _polyline(q, k, v, size, implementation):
    steps = -torch.nn.functional.softplus(v[..., :2].float()).unflatten(1, size)
    return polyline_attention(q, k, v, steps, implementation=implementation)


def _sec(q, k, v, size, implementation):
    return sec_attention(q, k, v, 5, implementation=implementation)


OPERATORS: dict[str, _Attention] = {
    "neighbourhood_attention": _neighbourhood,
    "manhattan_attention": _manhattan,
    "manhattan_attention, decomposed": _decomposed,
    "sec_attention": _sec,
    "polyline_attention": _polyline,
}


def operator(name: str, dtype: str, size: tuple[int, int], device: str) -> Iterator[Value]:
    """Errors of the fused form on a device, against the formula in float32 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, size[0] * size[1], _HEADS, _HEAD_DIM)
    rounded = [torch.randn(shape, generator=generator).to(getattr(torch, dtype)) for _ in range(4)]
    outcomes = []
    for place, implementation in (("cpu", "reference"), (device, "fused")):
        *inputs, weight = (t.to(place) if implementation == "fused" else t.float() for t in rounded)
        inputs = [t.requires_grad_() for t in inputs]
        out = OPERATORS[name](*inputs, size, implementation)
        grads = torch.autograd.grad((out.flatten() * weight.flatten()).sum(), inputs)
        outcomes.append([t.detach().float().cpu() for t in (out, *grads)])
    for part, expected, actual in zip(("output", "grad q", "grad k", "grad v"), *outcomes):
        yield Value(
            f"error of {part}", float(relative_rms_error(actual, expected)), "", LIMITS[dtype]
        )
