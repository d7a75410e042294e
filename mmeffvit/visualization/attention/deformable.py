"""Drawing of deformable attention: which pixels a query reads, on every level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeffvit.layers import Context, DeformableAttention, DeformableMixer
from mmeffvit.layers.mixers.deformable import pixel_centres
from mmeffvit.ops import deformable_attention
from mmeffvit.visualization.attention.capture import MixerCall, record_calls, token_at
from mmeffvit.visualization.attention.maps import MapRow, TokenMap, register_drawing
from mmeffvit.visualization.attention.sheet import Section

_NOTE = "Tokens that the marked one reads, and with what weight"


def read_weights(
    module: DeformableAttention,
    query: Tensor,
    token: tuple[int, int],
    sources: Sequence[Tensor],
    context: Context,
) -> list[Tensor]:
    """How much one query takes from every token of every level.

    Args:
        module: The attention.
        query: (1, C, H, W) map of queries.
        token: Row and column of the query.
        sources: A (1, C, H_v, W_v) map for each level.
        context: Shared tables.

    Returns:
        (h, H_v, W_v) for each level; a head's weights sum to one over all levels, less what it
        reads beyond the borders.
    """
    with torch.no_grad():
        levels = module.levels(sources, context)
        centres = pixel_centres(context, query)
        locations, weights = module.points(query, centres, levels.sizes)
    at = token[0] * query.shape[-1] + token[1]
    # what is read is linear in the values, the same for all channels of a head
    values = torch.zeros_like(levels.values[..., :1]).requires_grad_()
    with torch.enable_grad():
        one = slice(at, at + 1)
        out = deformable_attention(values, levels.shapes, locations[:, one], weights[:, one])
        (gradient,) = torch.autograd.grad(out.sum(), values)
    parts = gradient[0, :, :, 0].T.split([h * w for h, w in levels.shapes], 1)
    return [part.unflatten(1, shape) for part, shape in zip(parts, levels.shapes)]


def _token_map(weights: Tensor, title: str) -> TokenMap:
    return TokenMap(torch.where(weights > 0, weights, torch.nan), title, (0, float(weights.max())))


@register_drawing(DeformableMixer)
def draw_points(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """What each head reads."""
    (weights,) = read_weights(call.mixer.attn, call.x, token, [call.x], call.context)
    maps = [_token_map(weights[head], f"head {head}") for head in heads]
    return [MapRow(f"{_NOTE}.", maps, legend=("none", "most"), opacity=(0.5, 0.9))]


def reads_a_pyramid(backbone: nn.Module) -> bool:
    """Whether there is deformable attention over several levels in a network."""
    return any(isinstance(m, DeformableAttention) and m.num_levels > 1 for m in backbone.modules())


def pyramid_sections(
    backbone: nn.Module,
    image: Tensor,
    at: tuple[float, float],
    chosen: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> list[Section]:
    """What a query reads on the levels of a pyramid, in the deformable attentions of a network.

    Args:
        backbone: A network with `DeformableAttention` over several levels, such as ViT-CoMer.
        image: (1, 3, H, W), normalised.
        at: Row and column in pixels of the image; the query is on the middle level.
        chosen: Which attentions, in the order in which they run; None for the first and the last.
        heads: Heads that have a row of their own; None for the first.

    Raises:
        ValueError: The network has no such attention.
    """
    names = {
        module: name
        for name, module in backbone.named_modules()
        if isinstance(module, DeformableAttention) and module.num_levels > 1
    }
    calls = record_calls(backbone, image, names)
    chosen = sorted({0, len(calls) - 1}) if chosen is None else chosen
    if not calls or not all(0 <= index < len(calls) for index in chosen):
        raise ValueError(
            f"{type(backbone).__name__} has {len(calls)} deformable attentions over several levels;"
            f" there is no number {max(chosen, default=0)} among them, which count from 0"
        )
    return [_section(names[calls[i][0]], *calls[i], image, at, heads) for i in chosen]


def _section(
    name: str,
    module: DeformableAttention,
    args: tuple,
    image: Tensor,
    at: tuple[float, float],
    heads: Sequence[int] | None,
) -> Section:
    queries, sources, context = args
    middle = queries[len(queries) // 2]
    strides = [round(image.shape[-1] / source.shape[-1]) for source in sources]
    stride = strides[len(queries) // 2]
    token = token_at(at, stride, middle.shape[-2:])
    levels = read_weights(module, middle, token, sources, context)
    rows = []
    for head in (None, *((0,) if heads is None else heads)):
        which = "all heads together" if head is None else f"head {head}"
        maps = [
            _token_map(weights.mean(0) if head is None else weights[head], f"stride {stride}")
            for weights, stride in zip(levels, strides)
        ]
        rows.append(MapRow(f"{_NOTE}: {which}.", maps, legend=("none", "most"), opacity=(0.5, 0.9)))
    title = f"{name}: {module.num_heads} heads, {module.num_points} points on each level"
    return Section(title, rows, strides)
