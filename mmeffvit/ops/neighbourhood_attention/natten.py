"""Neighbourhood attention by the NATTEN package, where it is installed and able.

NATTEN's own kernels run on CUDA only. It is used when asked for by name: its results are NATTEN's.
"""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version

import torch
from packaging.version import Version
from torch import Tensor

# the first release with one function for fused forward and backward, any kernel, this layout
_FIRST_RELEASE = Version("0.20")
_CHANNELS_MULTIPLE = 8


def refuses(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> str | None:
    """Why NATTEN cannot run on these arguments, or None."""
    if bias is not None:
        return "natten's fused attention takes no relative bias"
    if q.shape[1:3] != k.shape[1:3]:
        return "natten takes queries and keys of one map"
    if importlib.util.find_spec("natten") is None:
        return "natten is not installed; see https://natten.org for wheels that match your torch"
    try:
        installed = version("natten")
    except PackageNotFoundError:
        return (
            f"the release of the installed natten is not known; {_FIRST_RELEASE} or later is needed"
        )
    if Version(installed) < _FIRST_RELEASE:
        return f"natten {installed} is installed; {_FIRST_RELEASE} or later is needed"
    if q.device.type != "cuda":
        return f"natten's kernels run on CUDA, and the tensors are on {q.device.type}"
    if q.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"natten has no kernels for {q.dtype}"
    if q.shape[-1] % _CHANNELS_MULTIPLE:
        return (
            f"natten needs a head dimension that is a multiple of {_CHANNELS_MULTIPLE}, got "
            f"{q.shape[-1]}"
        )
    if min(kernel) < 2:
        return f"natten needs kernels of at least 2 on both axes, got {kernel}"
    return None


def neighbourhood_attention_natten(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    *,
    bias: None = None,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.neighbourhood_attention`."""
    import natten

    return natten.na2d(
        *(t.contiguous() for t in (q, k, v)),
        kernel_size=kernel,
        dilation=dilation,
        scale=q.shape[-1] ** -0.5 if scale is None else scale,
    )
