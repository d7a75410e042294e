"""mmcv's compiled kernels behind our operators, where mmcv is compiled."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.ops import dispatch


def _refuses(values: Tensor, *args: object) -> str | None:
    if values.device.type != "cuda":
        return f"mmcv's kernels run on CUDA, and the tensors are on {values.device.type}"
    return None


def _attend_by_mmcv(
    values: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    sizes = torch.tensor(shapes, device=values.device)
    areas = sizes.prod(1)
    arguments = (t.contiguous() for t in (locations, weights))
    # one image per step: the kernel wants a number of them that divides the batch
    out = MultiScaleDeformableAttnFunction.apply(
        values.contiguous(), sizes, areas.cumsum(0) - areas, *arguments, 1
    )
    return out.unflatten(2, values.shape[2:])


def offer() -> None:
    """Add mmcv's compiled kernels to the operator, to be asked for by name."""
    dispatch.register("deformable_attention", "mmcv", _attend_by_mmcv, _refuses)
