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
    group_attention,
    manhattan_attention,
    neighbourhood_attention,
    polyline_attention,
    relative_attention,
    sec_attention,
)
from mmeffvit.testing import relative_rms_error
from mmeffvit.testing.golden import TOLERANCES, golden_errors, golden_family

#: relative RMS error that is allowed, by type
LIMITS = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 3e-2}

#: of the tensors that operators are given
HEADS, HEAD_DIM = 4, 32
_Attention = Callable[[Tensor, Tensor, Tensor, tuple[int, int], str], Tensor]


def golden(path: Path, device: str) -> Iterator[Value]:
    """The largest error of all outputs of a golden file, computed on a device in float32."""
    errors = golden_errors(path, device)
    # other devices sum in another order: ten times the tolerance of a CPU
    yield Value("largest error", max(errors.values()), "", 10 * TOLERANCES[golden_family(path)])


def _manhattan(q, k, v, size, implementation, decomposed=False):
    decay = ManhattanDecay(*size, decay_rates(HEADS), q.device)
    return manhattan_attention(q, k, v, decay, decomposed=decomposed, implementation=implementation)


def _decomposed(q, k, v, size, implementation):
    return _manhattan(q, k, v, size, implementation, decomposed=True)


def _maps(size, *tokens):
    return (t.unflatten(1, size) for t in tokens)


def _table(*shape, like):
    """A bias per head, float32, as networks have it."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(HEADS, *shape, generator=generator).to(like.device).requires_grad_()


def _neighbourhood(q, k, v, size, implementation):
    return neighbourhood_attention(*_maps(size, q, k, v), 5, (1, 2), implementation=implementation)


def _neighbourhood_with_bias(q, k, v, size, implementation):
    options = {"bias": _table(13, 13, like=q), "implementation": implementation}
    return neighbourhood_attention(*_maps(size, q, k, v), 7, **options)


def _groups(q, k, v, size, implementation):
    bias = _table(7, 7, 7, 7, like=q)
    return group_attention(*_maps(size, q, k, v), bias, implementation=implementation)


def _relative(q, k, v, size, implementation):
    options = {"bias": _table(*(2 * n - 1 for n in size), like=q), "implementation": implementation}
    return relative_attention(*_maps(size, q, k, v), **options)


def _polyline(q, k, v, size, implementation):
    steps = -torch.nn.functional.softplus(v[..., :2].float()).unflatten(1, size)
    return polyline_attention(q, k, v, steps, implementation=implementation)


def _sec(q, k, v, size, implementation):
    return sec_attention(q, k, v, 5, implementation=implementation)


OPERATORS: dict[str, _Attention] = {
    "neighbourhood_attention": _neighbourhood,
    "neighbourhood_attention, bias": _neighbourhood_with_bias,
    "manhattan_attention": _manhattan,
    "manhattan_attention, decomposed": _decomposed,
    "sec_attention": _sec,
    "polyline_attention": _polyline,
    "group_attention": _groups,
    "relative_attention, the map": _relative,
}


def has_gradients(device: str, implementation: str = "fused") -> bool:
    """Whether an implementation has gradients on a device: `flex_attention` has none on a CPU."""
    return implementation == "fused" or torch.device(device).type != "cpu"


def operator(
    name: str, dtype: str, size: tuple[int, int], device: str, implementation: str = "fused"
) -> Iterator[Value]:
    """Errors of an implementation on a device, against the formula in float32 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, size[0] * size[1], HEADS, HEAD_DIM)
    rounded = [torch.randn(shape, generator=generator).to(getattr(torch, dtype)) for _ in range(4)]
    gradients = has_gradients(device, implementation)
    outcomes = []
    for place, own in (("cpu", "reference"), (device, implementation)):
        *inputs, weight = (t.float() if own == "reference" else t.to(place) for t in rounded)
        inputs = [t.requires_grad_(gradients) for t in inputs]
        with torch.set_grad_enabled(gradients):
            out = OPERATORS[name](*inputs, size, own)
        loss = (out.flatten() * weight.flatten()).sum()
        grads = torch.autograd.grad(loss, inputs) if gradients else ()
        outcomes.append([t.detach().float().cpu() for t in (out, *grads)])
    for part, expected, actual in zip(("output", "grad q", "grad k", "grad v"), *outcomes):
        yield Value(
            f"error of {part}", float(relative_rms_error(actual, expected)), "", LIMITS[dtype]
        )
