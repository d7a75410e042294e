"""Attention across scales: inside the regions of several maps that lie over the same pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.region_attention.fused import region_attention_fused
from mmeffvit.ops.region_attention.reference import region_attention_reference

__all__ = ["region_attention"]

dispatch.register("region_attention", "fused", region_attention_fused)
dispatch.register("region_attention", "reference", region_attention_reference)


def region_attention(
    q: Sequence[Tensor],
    k: Sequence[Tensor],
    v: Sequence[Tensor],
    sides: Sequence[int],
    valid: Sequence[Tensor] | None = None,
    *,
    implementation: str | None = None,
) -> list[Tensor]:
    """Softmax attention of every token to the tokens of all maps in its region.

    Map i is R x C regions of ``sides[i]`` x ``sides[i]`` tokens; R and C are those of all maps. A
    region's tokens attend to one another, whatever map they are of.

    Args:
        q: (B, R s_i, C s_i, h, d) queries of each map.
        k: Keys of the same shapes.
        v: Values of the same shapes.
        sides: Tokens s_i on a side of a region, for each map.
        valid: (R s_i, C s_i) whether a token is a key, for each map; None for all. Every region
            needs one.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        The shapes of `q`.

    Raises:
        ValueError: Numbers of maps, or of regions, differ.
    """
    grids = {
        (x.shape[1] / side, x.shape[2] / side)
        for levels in (q, k, v)
        for x, side in zip(levels, sides)
    }
    if not len(q) == len(k) == len(v) == len(sides) or len(grids) != 1:
        raise ValueError(
            "region_attention needs as many maps as sides, and the same regions in all of them; "
            f"got sides={tuple(sides)} and maps of {[tuple(x.shape[1:3]) for x in q]}"
        )
    return dispatch.run("region_attention", implementation, q, k, v, sides, valid)
