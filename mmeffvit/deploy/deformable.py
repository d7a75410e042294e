"""Parts with deformable attention, whose sizes of levels are numbers that may be symbols.

B images, V levels, H W a level, S pixels of all levels, Q queries, C channels.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmeffvit.ops import deformable_attention


def with_plain_attention(model: nn.Module) -> nn.Module:
    """A copy whose deformable attention takes sizes as numbers, which may be symbols."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if type(module).__name__ in _FORMS:
            module.forward = types.MethodType(_FORMS[type(module).__name__], module)
    return model


def _attend(
    self: nn.Module,
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    identity: Tensor | None = None,
    query_pos: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    reference_points: Tensor | None = None,
    spatial_shapes: Sequence[tuple[int, int]] = (),
    level_start_index: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """mmcv's ``MultiScaleDeformableAttention.forward`` (arXiv:2010.04159, section 4.1).

    Sizes of levels are numbers, not a tensor.
    """
    value = query if value is None else value
    identity = query if identity is None else identity
    query = query if query_pos is None else query + query_pos
    if not self.batch_first:
        query, value = query.transpose(0, 1), value.transpose(0, 1)
    value = self.value_proj(value)
    if key_padding_mask is not None:
        value = value.masked_fill(key_padding_mask.unsqueeze(-1), 0.0)
    places = (self.num_heads, self.num_levels, self.num_points)
    offsets = self.sampling_offsets(query).unflatten(2, (*places, 2))
    weights = self.attention_weights(query).unflatten(2, (places[0], -1)).softmax(-1)
    points = reference_points[:, :, None, :, None]
    if points.size(-1) == 2:
        units = torch.stack([_numbers(query, (width, height)) for height, width in spatial_shapes])
        locations = points + offsets / units[:, None]
    else:
        locations = points[..., :2] + offsets / self.num_points * points[..., 2:] * 0.5
    out = deformable_attention(
        value.unflatten(2, (self.num_heads, -1)),
        spatial_shapes,
        locations,
        weights.unflatten(3, places[1:]),
    )
    out = self.output_proj(out.flatten(2))
    return (out if self.batch_first else out.transpose(0, 1)) + identity


def _decode_pixels(self: nn.Module, feats: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """mmdet's ``MSDeformAttnPixelDecoder.forward`` (arXiv:2112.01527, section 3.1).

    Returns:
        Features of pixels (B, C, H, W) at the finest level, and maps for queries, coarsest first.
    """
    coarsest_first = list(feats)[::-1]
    shapes, tokens, places, points = [], [], [], []
    for level, (conv, x) in enumerate(zip(self.input_convs, coarsest_first)):
        x = conv(x)
        place = self.postional_encoding(None, input=x)
        place = place + self.level_encoding.weight[level].view(1, -1, 1, 1)
        shapes.append(tuple(x.shape[2:]))
        tokens.append(x.flatten(2).transpose(1, 2))
        places.append(place.flatten(2).transpose(1, 2))
        points.append(_centres(*shapes[-1]))
    x = torch.cat(tokens, 1)
    points = torch.cat(points).view(1, -1, 1, 2).expand(x.size(0), -1, len(shapes), -1)
    x = self.encoder(
        query=x,
        query_pos=torch.cat(places, 1),
        key_padding_mask=None,
        spatial_shapes=shapes,
        reference_points=points,
        level_start_index=None,
        valid_ratios=None,
    )
    levels = x.transpose(1, 2).split([height * width for height, width in shapes], dim=2)
    maps = [level.unflatten(2, shape) for level, shape in zip(levels, shapes)]
    finer = coarsest_first[len(shapes) :]
    # the toolbox keeps both lists finest first, and walks them from their end
    for x, lateral, output in zip(finer, self.lateral_convs[::-1], self.output_convs[::-1]):
        x = lateral(x)
        x = x + F.interpolate(maps[-1], x.shape[2:], mode="bilinear", align_corners=False)
        maps.append(output(x))
    return self.mask_feature(maps[-1]), maps[: self.num_outs]


def _centres(height: int, width: int) -> Tensor:
    """Of the pixels of a level, x before y, in shares of its sides: (H W, 2)."""
    rows, columns = (torch.arange(side) + 0.5 for side in (height, width))
    y, x = (rows / height).unsqueeze(1), (columns / width).unsqueeze(0)
    return torch.stack((x.expand(height, -1), y.expand(-1, width)), -1).flatten(0, 1)


#: class of mmcv or mmdet -> its form
_FORMS = {
    "MultiScaleDeformableAttention": _attend,
    "MSDeformAttnPixelDecoder": _decode_pixels,
}


def _numbers(like: Tensor, numbers: Sequence[int]) -> Tensor:
    """Sizes, symbols or not, as a tensor of the type of another one."""
    return torch.cat([torch.full((1,), n, dtype=torch.int64) for n in numbers]).to(like)


class SymbolicSizes(TorchFunctionMode):
    """Tensors that toolboxes make of sizes, in forms that exporters take for symbols."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.linspace:
            start, end, steps = args
            if isinstance(steps, torch.SymInt) or isinstance(end, torch.SymFloat):
                # all of them go from pixel to pixel: end - start = steps - 1
                return torch.arange(steps, **kwargs) + start
        if function is torch.Tensor.new_tensor and isinstance(args[1], tuple):
            return _numbers(args[0], args[1])
        return function(*args, **kwargs)
