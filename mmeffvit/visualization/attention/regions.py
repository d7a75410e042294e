"""Drawing of attention across scales: which maps the tokens of a region read (DuoFormer)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeffvit.models.necks.cross_scale_attention import CrossScaleAttention, ScaleBlock
from mmeffvit.ops import region_attention
from mmeffvit.visualization.attention.capture import record_calls, token_at
from mmeffvit.visualization.attention.maps import MapRow, TokenMap, chosen_heads, short_range
from mmeffvit.visualization.attention.sheet import Section

#: heads drawn if none are named
_MOST_HEADS = 1


class RegionCall:
    """A block of a neck at work on the maps of one image.

    Args:
        block: The block.
        maps: (1, C, R s_i, W s_i) that it was called with, regions' own tokens first.
        sides: Tokens s_i on a side of a region, for each of them.
        valid: Which of their tokens are keys; None for all.
    """

    def __init__(
        self,
        block: ScaleBlock,
        maps: Sequence[Tensor],
        sides: Sequence[int],
        valid: Sequence[Tensor] | None,
    ):
        self.block, self.sides, self.valid = block, sides, valid
        with torch.no_grad():
            self.q, self.k, _ = zip(*map(block.project, maps))

    def _attend(self, values: Sequence[Tensor]) -> list[Tensor]:
        return region_attention(self.q, self.k, values, self.sides, self.valid)

    def shares(self) -> list[Tensor]:
        """What part of its attention each token spends on each of the maps.

        Returns:
            (h, n, R s_i, W s_i) for each of the n maps; a token's shares sum to one.
        """
        # attention is a mean of values: of values that name their map it is what each map got
        names = torch.eye(len(self.q)).to(self.q[0])
        outs = self._attend([name.expand(*x.shape[:4], -1) for name, x in zip(names, self.q)])
        return [out[0].permute(2, 3, 0, 1) for out in outs]

    def attention_of(self, level: int, token: tuple[int, int]) -> list[Tensor]:
        """How much one token takes from every token: (h, R s_i, W s_i) for each map."""
        values = [torch.zeros_like(x[..., :1]).requires_grad_() for x in self.q]
        with torch.enable_grad():
            out = self._attend(values)[level][0, token[0], token[1]]
            gradients = torch.autograd.grad(out.sum(), values)
        return [gradient[0, ..., 0].permute(2, 0, 1) for gradient in gradients]


def scale_sections(
    backbone: nn.Module,
    neck: nn.Module,
    image: Tensor,
    at: tuple[float, float],
    blocks: Sequence[int] = (-1,),
    heads: Sequence[int] | None = None,
) -> list[Section]:
    """What tokens read of the maps of a pyramid, in blocks of a neck.

    Args:
        backbone: Makes the maps.
        neck: `CrossScaleAttention`, or necks of which it is one.
        image: (1, 3, H, W), normalised.
        at: Row and column in pixels of the image, whose token of the finest map is followed.
        blocks: Blocks from 0 or, if negative, from the last.
        heads: Heads whose weights are drawn; None for the first.

    Raises:
        ValueError: The neck has no attention across scales, or no such block or head.
    """
    mixing = next((m for m in neck.modules() if isinstance(m, CrossScaleAttention)), None)
    if mixing is None:
        raise ValueError(
            f"the neck, {type(neck).__name__}, has no attention to draw: of all necks only "
            "CrossScaleAttention has"
        )
    count = len(mixing.blocks)
    for block in blocks:
        if not -count <= block < count:
            raise ValueError(f"there is no block {block}: the neck has {count}, 0 to {count - 1}")
    calls = record_calls(nn.Sequential(backbone, neck), image, [mixing, *mixing.blocks])
    arguments = dict(calls)
    sizes = [x.shape[2:] for x in arguments[mixing][0]][mixing.start_level :][::-1]
    # of the finest map, which has most tokens for a stride to be told by
    stride = round(image.shape[-1] / sizes[-1][1])
    strides = [stride * mixing.sides[0] // side for side in reversed(mixing.sides)]
    sections = []
    for index in (block % count for block in blocks):
        call = RegionCall(mixing.blocks[index], *arguments[mixing.blocks[index]])
        where = f"Block {index}{' (the last)' if index == count - 1 else ''} of the neck"
        sections.append(_marked(where, call, sizes, strides, at, heads))
        sections += _shares(where, call, sizes, strides)
    return sections


def _marked(
    where: str,
    call: RegionCall,
    sizes: Sequence[Sequence[int]],
    strides: Sequence[int],
    at: tuple[float, float],
    heads: Sequence[int] | None,
) -> Section:
    """What the token of the finest map at a place reads: a row for each head."""
    token = token_at(at, strides[-1], sizes[-1])
    own, *weights = call.attention_of(len(sizes), token)
    weights = [_cropped(w, size) for w, size in zip(weights, sizes)]
    rows = []
    for head in chosen_heads(call.block.num_heads, heads, "the neck, which", _MOST_HEADS):
        read = [torch.where(w[head] > 0, w[head], torch.nan) for w in weights]
        most = max(float(w[head].max()) for w in weights)
        maps = [
            TokenMap(w, f"stride {stride}: {_percent(w.nansum())}", (0, most))
            for w, stride in zip(read, strides)
        ]
        note = (
            f"Head {head}: what the marked token of stride {strides[-1]} reads in its region, and "
            f"the share of each map; the region's own token gets {_percent(own[head].sum())}."
        )
        rows.append(MapRow(note, maps, legend=("none", "most"), opacity=(0.5, 0.9)))
    return Section(f"{where}: the region of the marked token", rows, strides)


def _shares(
    where: str, call: RegionCall, sizes: Sequence[Sequence[int]], strides: Sequence[int]
) -> list[Section]:
    """What all tokens of each map read, the finest map first."""
    names = ["own token", *(f"stride {stride}" for stride in strides)]
    note = "Share of each map in a token's attention, mean of heads; 1 is attention to all alike."
    _, *levels = call.shares()
    counts = torch.tensor([side * side for side in call.sides])
    even = (counts / counts.sum()).to(levels[0])[:, None, None]
    sections = []
    for stride, size, shares in reversed([*zip(strides, sizes, levels)]):
        ratios = _cropped(shares.mean(0), size) / even
        maps = [
            TokenMap(ratio, f"{name}: {short_range(ratio)}") for name, ratio in zip(names, ratios)
        ]
        title = f"{where}: what the {size[0]} × {size[1]} tokens of stride {stride} read"
        sections.append(Section(title, [MapRow(note, maps)], stride))
    return sections


def _cropped(values: Tensor, size: Sequence[int]) -> Tensor:
    """Without what regions have beyond the map."""
    return values[..., : size[0], : size[1]]


def _percent(share: Tensor) -> str:
    return f"{float(share):.0%}"
