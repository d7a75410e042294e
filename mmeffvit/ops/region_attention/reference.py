"""The formula of attention across scales, one region after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.ops.precision import autocast_disabled, in_full


def region_attention_reference(
    q: Sequence[Tensor],
    k: Sequence[Tensor],
    v: Sequence[Tensor],
    sides: Sequence[int],
    valid: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """See :func:`mmeffvit.ops.region_attention.region_attention`."""
    with autocast_disabled(q[0].device.type):
        outs = [torch.zeros_like(in_full(x)) for x in v]
        for row in range(q[0].shape[1] // sides[0]):
            for column in range(q[0].shape[2] // sides[0]):
                places = [
                    (slice(row * s, row * s + s), slice(column * s, column * s + s)) for s in sides
                ]
                # (B, h, T, d)
                parts = [
                    torch.cat(
                        [in_full(x)[:, r, c].flatten(1, 2) for x, (r, c) in zip(m, places)], 1
                    )
                    for m in (q, k, v)
                ]
                a, b, c = (part.transpose(1, 2) for part in parts)
                logits = a @ b.transpose(-1, -2) * a.shape[-1] ** -0.5
                if valid is not None:
                    is_key = torch.cat([x[r, c].flatten() for x, (r, c) in zip(valid, places)])
                    logits = logits.masked_fill(~is_key, float("-inf"))
                out = (logits.softmax(-1) @ c).transpose(1, 2)
                for x, part, s, (r, c) in zip(
                    outs, out.split([s * s for s in sides], 1), sides, places
                ):
                    x[:, r, c] = part.unflatten(1, (s, s))
        return [out.to(x.dtype) for out, x in zip(outs, v)]
