"""Drawing of merged tokens: the cells of a map, and what each token weighs in its own (ViTAR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mmeffvit.layers.token_merger import Cells, TokenMerger
from mmeffvit.visualization.attention.capture import record_calls, token_at
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    chosen_heads,
    range_title,
)
from mmeffvit.visualization.attention.sheet import Section

#: heads drawn if none are named: they fill a line with the cells
_MOST_HEADS = 2


@dataclass(frozen=True)
class Merging:
    """What mergers made of the patches of an image.

    Attributes:
        sections: A section for each pass, whose maps have a cell for each patch.
        owners: (H, W) number of the token that stands for each patch after the last pass.
        size: Rows and columns of these tokens.
        stride: Pixels of the image per patch.
    """

    sections: list[Section]
    owners: Tensor
    size: tuple[int, int]
    stride: int

    def token_at(self, y: float, x: float) -> tuple[int, int]:
        """Row and column of the merged token that stands for a pixel of the input."""
        patch = token_at((y, x), self.stride, self.owners.shape)
        return divmod(int(self.owners[patch]), self.size[1])

    def over_patches(self, rows: Sequence[MapRow]) -> list[MapRow]:
        """Maps of merged tokens as maps of patches: a token is drawn over all it stands for."""
        return [
            replace(
                row,
                maps=[replace(m, values=m.values.flatten(0, 1)[self.owners]) for m in row.maps],
            )
            for row in rows
        ]


def merges_tokens(backbone: nn.Module) -> bool:
    """Whether a network merges tokens by their weights in a cell."""
    return any(isinstance(m, TokenMerger) and m.query is not None for m in backbone.modules())


def merge_weights(merger: TokenMerger, x: Tensor, cells: Cells) -> Tensor:
    """How much of each token goes into that of its cell.

    Args:
        merger: One pass.
        x: (1, C, H, W) tokens before it.
        cells: Which are merged.

    Returns:
        (h, H, W); the weights of a head in a cell sum to one.
    """
    heads = merger.num_heads
    with torch.no_grad():
        q = merger.query(merger.norm1(cells.mean(x))).flatten(2).transpose(1, 2)
        k = cells.gather(merger.key(merger.norm1(x)))
        q, k = (t[0].unflatten(-1, (heads, -1)).float() for t in (q, k))  # (L, h, d), (L, K, h, d)
        logits = torch.einsum("lhd,lkhd->hlk", q, k) * q.shape[-1] ** -0.5
        weights = logits.masked_fill(~cells.valid, -torch.inf).softmax(-1)
        out = weights.new_empty(heads, x.shape[2] * x.shape[3])
        # a token is in one cell
        out[:, cells.index[cells.valid]] = weights[:, cells.valid]
    return out.unflatten(1, x.shape[2:])


def follow_mergers(
    backbone: nn.Module,
    image: Tensor,
    at: tuple[float, float],
    heads: Sequence[int] | None = None,
) -> Merging:
    """Run a network on an image, and follow its patches through all passes of its mergers.

    Args:
        backbone: A network of which `merges_tokens` is true.
        image: (1, 3, H, W), normalised.
        at: Row and column, in pixels of the image, whose cell is drawn by itself.
        heads: Heads to draw, from 0; None for two at most.

    Raises:
        ValueError: The merger has no such head.
    """
    mergers = [module for module in backbone.modules() if isinstance(module, TokenMerger)]
    calls = [(merger, *args) for merger, args in record_calls(backbone, image, mergers)]
    size = tuple(calls[0][1].shape[2:])
    owners = torch.arange(size[0] * size[1]).unflatten(0, size)
    stride = backbone.patch_embed.stride[0]
    marked = token_at(at, stride, size)
    sections = []
    for number, (merger, x, cells) in enumerate(calls, 1):
        rows, owners = _pass_rows(merger, x, cells, owners, marked, heads)
        before, after = (" × ".join(map(str, n)) for n in (x.shape[2:], cells.size))
        title = f"Pass {number} of the token merger: {before} tokens to {after}"
        sections.append(Section(title, rows, stride))
    return Merging(sections, owners, calls[-1][2].size, stride)


def _pass_rows(
    merger: TokenMerger,
    x: Tensor,
    cells: Cells,
    owners: Tensor,
    marked: tuple[int, int],
    heads: Sequence[int] | None,
) -> tuple[list[MapRow], Tensor]:
    """Cells and weights of a pass, drawn over patches, and the owners of these after it."""
    index, valid = cells.index.cpu(), cells.valid.cpu()
    numbers = torch.empty(x.shape[2] * x.shape[3], dtype=torch.int64)
    numbers[index[valid]] = torch.arange(len(index))[:, None].expand_as(index)[valid]
    after = numbers[owners]
    row, column = after // cells.size[1], after % cells.size[1]
    # four colours in turn, so that neighbours differ
    pattern = (row % 2 * 2 + column % 2).float()
    own = after == after[marked]
    marks = torch.where(own, 3, torch.nan)
    maps = [
        TokenMap(pattern, f"{len(index)} cells", (0, 3)),
        TokenMap(marks, f"the mark's: {int(own.sum())} patches", (0, 3)),
    ]
    merges = index.shape[1] > 1
    note = "Tokens of one cell become one." if merges else "Every token is a cell of its own."
    rows = [MapRow(note, maps, "viridis", None, (0.45, 0.65))]
    if merges:
        # multiples of the mean weight of a token's cell
        weights = merge_weights(merger, x, cells).cpu()
        weights = (weights.flatten(1) * valid.sum(1)[numbers])[:, owners]
        chosen = chosen_heads(merger.num_heads, heads, "the token merger, which", _MOST_HEADS)
        note = "Weight of each token in its cell, as multiples of the mean."
        maps = [_weight_map(head, weights[head]) for head in chosen]
        rows.append(MapRow(note, maps, "RdBu_r", ("less", "more"), (0.7, 0.7)))
    return rows, after


def _weight_map(head: int, weights: Tensor) -> TokenMap:
    """Multiples of the mean, 1 in the middle of the colours."""
    most = float((weights - 1).abs().max())
    return TokenMap(weights, range_title(head, weights), (1 - most, 1 + most))
