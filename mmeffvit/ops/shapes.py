"""What attention operators take: queries, keys and values of one shape."""

from __future__ import annotations

from torch import Tensor


def check_qkv(op: str, q: Tensor, k: Tensor, v: Tensor, shape: str = "(B, L, h, d)") -> None:
    """Raise a ValueError unless q, k and v have one shape, of as many axes as are written."""
    if q.dim() != shape.count(",") + 1 or not q.shape == k.shape == v.shape:
        raise ValueError(
            f"{op} needs q, k and v of one shape {shape}, got "
            f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
