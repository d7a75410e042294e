"""Merging the tokens of a map into those of a coarser one, by attention in cells.

The parts of ViTAR's adaptive token merger (arXiv 2403.18361, section 3.2): `end_padded` and
`spread_padded` say for one axis which tokens are in which cell, `Cells` joins two axes, and
`TokenMerger` leaves one token of each cell.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmeffvit.layers.ffn import MLP
from mmeffvit.layers.init import draw_linear_layers
from mmeffvit.layers.norm import LayerNorm2d
from mmeffvit.ops import cell_attention

_norm = partial(LayerNorm2d, eps=1e-6)


class Cells(NamedTuple):
    """How the tokens of a map, L' of them, go into L cells of K places each.

    Attributes:
        index: (L, K) token of each place; any token where there is none.
        valid: (L, K) whether there is one; each cell has one or more.
        size: Rows and columns of the cells.
    """

    index: Tensor
    valid: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], width: int) -> Cells:
        """Cells of a map of `width` columns, from both axes' index and valid, (cells, side)."""
        (row, has_row), (column, has_column) = rows, columns
        index = row[:, None, :, None] * width + column[None, :, None]
        valid = has_row[:, None, :, None] & has_column[None, :, None]
        size = (row.shape[0], column.shape[0])
        return cls(*(t.flatten(2).flatten(0, 1) for t in (index, valid)), size)

    def gather(self, x: Tensor) -> Tensor:
        """A map (B, C, H, W) as (B, L, K, C)."""
        return x.flatten(2).transpose(1, 2)[:, self.index]

    def mean(self, x: Tensor) -> Tensor:
        """The mean of each cell's tokens, (B, C, H, W) to (B, C, rows, columns)."""
        share = self.valid / self.valid.sum(1, keepdim=True)
        return self.to_map((self.gather(x) * share.to(x.dtype)[..., None]).sum(2))

    def to_map(self, tokens: Tensor) -> Tensor:
        """(B, L, C) to (B, C, rows, columns)."""
        return tokens.unflatten(1, self.size).permute(0, 3, 1, 2)


def end_padded(n: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Index and valid, (cells, side), of n tokens side by side; what is missing is at the end."""
    slots = torch.arange(-(-n // side) * side, device=device).unflatten(0, (-1, side))
    return slots.clamp(max=n - 1), slots < n


def spread_padded(n: int, cells: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Index and valid, (cells, 2), of n tokens, ``cells <= n <= 2 cells`` (grid padding).

    Each of the first cells lacks one token, until there are enough for two in each.
    """
    first = torch.arange(cells, device=device)
    pads = 2 * cells - n
    pair = torch.stack((2 * first - pads, 2 * first + 1 - pads), 1)
    valid = torch.stack((first >= 0, first >= pads), 1)
    return torch.maximum(pair, first[:, None]), valid


class TokenMerger(nn.Module):
    """One pass of the adaptive token merger: attention in cells, which leaves a token of each.

    The query of a cell is its mean, which is also the residual; a feed-forward network follows.

    Args:
        dim: Channels C.
        num_heads: Heads.
        hidden_dim: Channels inside of the feed-forward network.
        merges: Whether there are cells of more than one token. Attention to a single token does
            not depend on query and key, which are left out then.
        implementation: Of `mmeffvit.ops.cell_attention`; None lets it choose.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden_dim: int,
        merges: bool = True,
        implementation: str | None = None,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.implementation = implementation
        self.norm1, self.norm2 = _norm(dim), _norm(dim)
        self.query, self.key = (nn.Conv2d(dim, dim, 1) if merges else None for _ in range(2))
        self.value, self.proj = (nn.Conv2d(dim, dim, 1) for _ in range(2))
        self.ffn = MLP(dim, hidden_dim)
        draw_linear_layers(self)
        # a pass starts as the mean of each cell
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.ffn.fc2.weight)

    def forward(self, x: Tensor, cells: Cells | None = None) -> Tensor:
        """(B, C, H, W) to a token of each cell; without cells each token is one."""
        normed = self.norm1(x)
        if self.query is None:
            out = self.value(normed)
        else:
            x = cells.mean(x)
            q = self.query(self.norm1(x)).flatten(2).transpose(1, 2)
            attended = cell_attention(
                q.unflatten(2, (self.num_heads, -1)),
                cells.gather(normed),
                torch.cat((self.key.weight, self.value.weight)).flatten(1),
                torch.cat((self.key.bias, self.value.bias)),
                cells.valid,
                implementation=self.implementation,
            )
            out = cells.to_map(attended.flatten(2))
        x = x + self.proj(out)
        return x + self.ffn(self.norm2(x))
