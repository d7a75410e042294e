"""PyTorch's `flex_attention` as a back end that operators share: what it can run, and the call.

It makes one kernel of softmax attention and a function of a logit and its places, so that no mask
and no weights are in memory, forward or backward. On CUDA that kernel is compiled when a kind of
call is first seen, which takes seconds. On a CPU the function runs as it stands, with all logits in
memory and without gradients: for checks alone.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmeffvit.ops.precision import autocast_disabled, autocast_enabled

#: why it is not chosen where it could run
BY_NAME = "flex_attention has not been measured on a GPU here (tools/analysis/gpu_report.py does)"

#: of a logit, and the numbers of its sample, head, query and key, to another logit
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

_MODULE = "torch.nn.attention.flex_attention"
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# what its kernels want of a head
_SMALLEST_HEAD = 16
# kernels of one operator: for each head dimension, number of heads, type, and with gradients or not
_KERNELS = 128


def refuses(q: Tensor, k: Tensor, v: Tensor, *tables: Tensor | None) -> str | None:
    """Why `flex_attention` cannot run on these tensors, or None.

    Args:
        q: (..., d) queries.
        k: Keys.
        v: Values.
        *tables: What the logits are changed by.
    """
    if torch.compiler.is_compiling():
        return "a graph that is traced has its own form of the operator"
    if importlib.util.find_spec(_MODULE) is None:
        return f"this torch, {torch.__version__}, has no flex_attention"
    if q.device.type == "cpu":
        return _refuses_gradients(q, k, v, *tables)
    if q.device.type != "cuda":
        return f"flex_attention is used on CUDA, and the tensors are on {q.device.type}"
    if importlib.util.find_spec("triton") is None:
        return "flex_attention is compiled by triton, which is not installed"
    if torch.cuda.get_device_capability(q.device) < (7, 0):
        return "flex_attention is compiled for GPUs of compute capability 7.0 and later"
    if q.dtype not in _DTYPES:
        return f"flex_attention has no kernels for {q.dtype}"
    if min(q.shape[-1], v.shape[-1]) < _SMALLEST_HEAD:
        return (
            f"flex_attention's kernels need a head dimension of at least {_SMALLEST_HEAD}, got "
            f"{min(q.shape[-1], v.shape[-1])}"
        )
    if _want_gradients(*tables) and not differentiates_tables():
        return f"flex_attention of torch {torch.__version__} has no gradients of tables"
    return None


def _want_gradients(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _refuses_gradients(*tensors: Tensor | None) -> str | None:
    if _want_gradients(*tensors):
        return "flex_attention has no backward pass on a CPU; torch.no_grad() for a check forward"
    return None


@functools.cache
def differentiates_tables() -> bool:
    """Whether this torch has gradients of tables that logits are changed by; tried, on a CPU."""
    with torch.inference_mode(False), torch.enable_grad():
        table = torch.zeros(2, requires_grad=True)
        tokens = torch.eye(2, 16)[None, None]
        try:
            out = _call(tokens, tokens, tokens, lambda score, b, h, i, j: score + table[j])
            (grad,) = torch.autograd.grad(out[0, 0, 0, 0], table)
        except Exception:  # whatever a torch says that has none
            return False
    # more of the first key, whose value is the larger one
    return bool(grad[0] > 0 > grad[1])


def attend(
    q: Tensor, k: Tensor, v: Tensor, scale: float, score_mod: ScoreMod, block_mask: Any = None
) -> Tensor:
    """``softmax(score_mod(scale q k^T)) v``, of the keys that a block mask lets through.

    Args:
        q: (B, L, h, d) queries.
        k: (B, L', h, d) keys.
        v: (B, L', h, e) values.
        scale: Factor of the products of queries and keys.
        score_mod: Changes a logit; reads tables, which get gradients, once each at most.
        block_mask: A `BlockMask` of queries and keys; None lets all through.

    Returns:
        (B, L, h, e).
    """
    device = q.device.type
    if autocast_enabled(device):
        q, k, v = (t.to(torch.get_autocast_dtype(device)) for t in (q, k, v))
    # tables stay in full precision
    with autocast_disabled(device):
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return _call(q, k, v, score_mod, block_mask=block_mask, scale=scale).transpose(1, 2)


def _call(q: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if q.device.type != "cpu":
        with torch._dynamo.config.patch(cache_size_limit=_KERNELS):
            return _compiled()(q, *args, **kwargs)
    from torch.nn.attention.flex_attention import flex_attention

    with warnings.catch_warnings():
        # that it holds all logits
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        return flex_attention(q, *args, **kwargs)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    # kernels for all sizes; without `fullgraph` what cannot be compiled would hold all logits
    return torch.compile(flex_attention, dynamic=True, fullgraph=True)
