"""A learnt table of positions, resized to the map that it is added to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.ops.precision import in_full
from mmeffvit.ops.resize import resize_map


def resize_table(table: Tensor, size: Sequence[int], mode: str = "bicubic") -> Tensor:
    """A table (B, C, H, W) of another size, without corners aligned or antialiasing.

    One without memory, of which no gradient is asked, only gets the shape: there PyTorch would go
    through the whole formula in Python, which takes longer than resizing numbers.
    """
    if table.is_meta and not (torch.is_grad_enabled() and table.requires_grad):
        return table.new_empty((*table.shape[:2], *size))
    return resize_map(table, size, mode)


class PositionTable(nn.Module):
    """Adds to every token of a map what a table knows of its place (ViT, arXiv 2010.11929).

    The table is resized to the map, without corners aligned or antialiasing, in float32. Resized
    tables are kept, the last one, as long as no gradient is asked of them.

    Args:
        embed_dims: Channels C.
        size: Rows and columns of the table: those of the map that it was made for.
        extra_tokens: Slots E in front for tokens that are no part of the map, a class token say.
            Checkpoints have them also where a network uses none.
        mode: ``'bicubic'`` or ``'bilinear'``.
    """

    def __init__(
        self,
        embed_dims: int,
        size: tuple[int, int],
        extra_tokens: int = 0,
        mode: str = "bicubic",
    ):
        super().__init__()
        if mode not in ("bicubic", "bilinear"):
            raise ValueError(f"mode must be 'bicubic' or 'bilinear', got {mode!r}")
        self.size = tuple(size)
        self.extra_tokens = extra_tokens
        self.mode = mode
        # (1, E + rows * columns, C), as checkpoints have it
        self.table = nn.Parameter(torch.empty(1, extra_tokens + math.prod(size), embed_dims))
        nn.init.trunc_normal_(self.table, std=0.02)
        self._kept: tuple[tuple, Tensor] | None = None

    def of_extra_tokens(self) -> Tensor:
        """(E, C)."""
        return self.table[0, : self.extra_tokens]

    def of_map(self, height: int, width: int) -> Tensor:
        """(1, C, H, W), resized where the table has another size."""
        if self._is_own(height, width):
            return self._own_map()
        keeps = not torch.compiler.is_compiling() and not (
            torch.is_grad_enabled() and self.table.requires_grad
        )
        if not keeps:
            return self._resize(self._own_map(), (height, width))
        table = self.table
        key = (height, width, table.dtype, table.device, table.data_ptr(), table._version)
        if self._kept is None or self._kept[0] != key:
            # what is made under inference_mode could not be used for training afterwards
            with torch.inference_mode(False), torch.no_grad():
                self._kept = (key, self._resize(self._own_map(), (height, width)))
        return self._kept[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        return x + self.of_map(*x.shape[-2:])

    def fitted(self, table: Tensor) -> Tensor | None:
        """The table of a checkpoint, (1, E' + n, C) of a square map, resized to this one.

        Extra slots that it has more are dropped, those that it lacks are zero.

        Args:
            table: The weight.

        Returns:
            A tensor of this table's shape, or None if `table` is no square after 0 to 2 slots, or
            of other channels.
        """
        if table.dim() != 3 or table.shape[::2] != self.table.shape[::2]:
            return None
        for extra in dict.fromkeys((self.extra_tokens, 1, 0, 2)):
            side = math.isqrt(max(table.shape[1] - extra, 0))
            if side and side * side == table.shape[1] - extra:
                square = table[:, extra:].transpose(1, 2).unflatten(2, (side, side))
                resized = self._resize(square, self.size).flatten(2).transpose(1, 2)
                slots = F.pad(table[:, :extra], (0, 0, 0, self.extra_tokens))
                return torch.cat((slots[:, : self.extra_tokens], resized), 1)
        return None

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that recipes of vision transformers do not decay, as timm asks."""
        return {"table"}

    def extra_repr(self) -> str:
        return f"size={self.size}, extra_tokens={self.extra_tokens}, mode={self.mode!r}"

    def _is_own(self, height: int, width: int) -> bool:
        """Whether the table has this size; of a size that is a symbol, only if it always has.

        A graph for all sizes resizes always, and with the numbers of the table itself at its size.
        """
        if not torch.compiler.is_compiling():
            return (height, width) == self.size
        from torch.fx.experimental.symbolic_shapes import statically_known_true

        return all(statically_known_true(n == own) for n, own in zip((height, width), self.size))

    def _own_map(self) -> Tensor:
        return self.table[:, self.extra_tokens :].transpose(1, 2).unflatten(2, self.size)

    def _resize(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return resize_table(in_full(x), size, self.mode).to(x.dtype)


class FuzzyPositionTable(PositionTable):
    """A position table that training reads a little beside the token (arXiv 2403.18361, 3.3).

    While training, the token in row i and column j gets what the table has at (i + s, j + t), with
    s and t drawn anew for each token of each image, uniformly from [-1/2, 1/2], in units of the
    distance between two tokens of the map at hand. In evaluation s = t = 0, which is bilinear
    resizing. Beyond the table its border is continued.

    Args:
        embed_dims: Channels C.
        size: Rows and columns of the table.
        extra_tokens: As in `PositionTable`; these are not moved.
    """

    def __init__(self, embed_dims: int, size: tuple[int, int], extra_tokens: int = 0):
        super().__init__(embed_dims, size, extra_tokens, mode="bilinear")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        if not self.training:
            return super().forward(x)
        batch, _, height, width = x.shape
        moves = torch.rand(batch, height, width, 2, device=x.device) - 0.5
        return x + self.at(moves)

    def at(self, moves: Tensor) -> Tensor:
        """(B, C, H, W) table, read by each token so far below and to the right of its place.

        Args:
            moves: (B, H, W, 2) rows and columns, in units of the distance between two tokens.
        """
        places = [
            2 * (torch.arange(n, device=moves.device) + 0.5) / n - 1 for n in moves.shape[1:3]
        ]
        rows = places[0][:, None] + 2 * moves[..., 0] / moves.shape[1]
        columns = places[1] + 2 * moves[..., 1] / moves.shape[2]
        # columns come first
        grid = torch.stack((columns, rows), -1)
        table = in_full(self._own_map()).expand(len(moves), -1, -1, -1)
        sampled = F.grid_sample(
            table, grid.to(table.dtype), padding_mode="border", align_corners=False
        )
        return sampled.to(self.table.dtype)
