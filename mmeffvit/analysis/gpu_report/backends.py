"""Optional back ends of operators beside what runs by default: errors, time, peak memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from mmeffvit.analysis.benchmark import paired_ratio, time_in_turn
from mmeffvit.analysis.gpu_report import agreement
from mmeffvit.analysis.gpu_report.run import Value
from mmeffvit.analysis.memory import MIB

#: of operators, by the names that they have in `agreement.OPERATORS`
BACK_ENDS = {
    "neighbourhood_attention": ("flex", "natten"),
    "neighbourhood_attention, bias": ("flex",),
    "manhattan_attention": ("flex",),
    "polyline_attention": ("flex",),
    "group_attention": ("flex",),
    "relative_attention, the map": ("flex",),
}


def beside_default(
    name: str, implementation: str, size: tuple[int, int], setting: Mapping[str, Any]
) -> Iterator[Value]:
    """Errors against the formula, then a training step of both, in turn; on a CPU forward alone.

    A ratio below 1 says that the back end is faster than the default.

    Raises:
        UnavailableImplementationError: It cannot run here.
    """
    device, dtype = setting["device"], setting["dtype"]
    yield from agreement.operator(name, dtype, size, device, implementation)
    names = ("fused", implementation)
    gradients = agreement.has_gradients(device, implementation)
    steps = {own: _step(name, own, size, setting, gradients) for own in names}
    on_gpu = torch.device(device).type == "cuda"
    synchronize = torch.cuda.synchronize if on_gpu else (lambda: None)
    times = time_in_turn(steps, setting["rounds"], setting["warmup"], synchronize)
    for own in names:
        yield Value(f"time of {_role(own)}", 1e3 * statistics.median(times[own]), "ms")
    yield Value("time over the default's", paired_ratio(times[implementation], times["fused"]))
    if on_gpu:
        for own in names:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            steps[own]()
            peak = torch.cuda.max_memory_allocated() - before
            yield Value(f"peak memory of {_role(own)}", peak / MIB, "MiB")


def _role(implementation: str) -> str:
    return "the default" if implementation == "fused" else "the back end"


def _step(
    name: str,
    implementation: str,
    size: tuple[int, int],
    setting: Mapping[str, Any],
    gradients: bool,
) -> Callable[[], Any]:
    """Forward, and backward if gradients are wanted."""
    dtype, device = getattr(torch, setting["dtype"]), setting["device"]
    shape = setting["batch"], size[0] * size[1], agreement.HEADS, agreement.HEAD_DIM
    q, k, v, weight = (t.to(device, dtype) for t in torch.randn(4, *shape))
    leaves = [t.requires_grad_(gradients) for t in (q, k, v)]

    def step() -> Any:
        with torch.set_grad_enabled(gradients):
            out = agreement.OPERATORS[name](*leaves, size, implementation)
        if gradients:
            # also of tables, which are made inside
            out.backward(weight.view_as(out))
            for leaf in leaves:
                leaf.grad = None

    return step
