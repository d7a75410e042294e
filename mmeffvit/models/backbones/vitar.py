"""ViTAR: a vision transformer for any resolution (arXiv 2403.18361).

No code or weights of it were published. What the paper leaves open, and what was chosen here, is in
configs/vitar/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mmeffvit.layers import MLP, FuzzyPositionTable, LayerNorm2d
from mmeffvit.layers.init import draw_linear_layers
from mmeffvit.models.backbones.plain import PLAIN_RULES, PlainViT, per_block, plain_block
from mmeffvit.models.official import KeyRule
from mmeffvit.ops import cell_attention, map_layout
from mmeffvit.registry import MODELS

_norm = partial(LayerNorm2d, eps=1e-6)
MODES = ("dense", "fixed_grid")


def _arch(dim: int, num_heads: int) -> dict[str, Any]:
    return {
        "embed_dims": dim,
        "depth": 12,
        "num_heads": num_heads,
        "mlp_ratio": 4,
        "patch_size": 16,
        "image_size": 224,
        "extra_tokens": 0,
        "window_sizes": (14, 14, None) * 4,
        "layer_scale": None,
    }


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


@MODELS.register_module()
class ViTAR(PlainViT):
    """ViTAR, small and base: a plain ViT behind a merger of tokens and a fuzzy position table.

    The keys of an arch dict are those of `PlainViT`. ``window_sizes`` are those of dense prediction
    (every third block attends to all); on the fixed grid all blocks attend to all.

    Args:
        arch: 'small', 'base' or a dict.
        mode: ``'dense'``: one pass of the merger over cells of `merge_ratio` tokens a side, maps of
            stride 16 or 32. ``'fixed_grid'``, for classification: the merger is applied until
            14 x 14 tokens are left, or fewer of a small image, whatever the image's size and shape,
            and once more; `out_strides` are then those of an image of ``image_size``.
        merge_ratio: Of dense mode, 1 or 2. The weights of query and key of the merger exist for 2
            only.
        implementation: Of `mmeffvit.ops.cell_attention`; None lets it choose.
        **kwargs: Those of `PlainViT`.

    Raises:
        ValueError: As `BaseBackbone`, or the mode or the ratio are others.
    """

    family: ClassVar[str] = "vitar"
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {"small": _arch(384, 6), "base": _arch(768, 12)}
    drop_path_rates: ClassVar[dict[str, float]] = {"small": 0.1, "base": 0.2}
    classifier_options: ClassVar[dict[str, Any]] = {"mode": "fixed_grid"}
    whole_options: ClassVar[dict[str, Any]] = {"mode": "fixed_grid"}
    embedding_parts: ClassVar[tuple[str, ...]] = (*PlainViT.embedding_parts, "merger")
    new_weights: ClassVar[dict[str, str]] = {
        **PlainViT.new_weights,
        "merger": "a token merger, which starts as the mean of each cell",
    }
    #: of a plain ViT; ViTAR's own weights were not published
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        *PLAIN_RULES,
        KeyRule(r"cls_token", None, reason="a class token, where all tokens are averaged"),
        KeyRule(r"norm\.(\w+)", r"backbone.out_norms.11.\1"),
        KeyRule(r"head\.(\w+)", r"head.fc.\1"),
    )

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "small",
        *args: Any,
        mode: str = "dense",
        merge_ratio: int = 1,
        implementation: str | None = None,
        block_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        if mode not in MODES or merge_ratio not in (1, 2):
            raise ValueError(
                f"mode must be one of {', '.join(map(repr, MODES))} and merge_ratio 1 or 2, got "
                f"{mode!r} and {merge_ratio}"
            )
        options = {**(block_options or {}), "windows": mode == "dense"}
        super().__init__(arch, *args, block_options=options, **kwargs)
        self.mode, self.merge_ratio = mode, merge_ratio
        dim = self.arch["embed_dims"]
        self.merger = TokenMerger(
            dim,
            self.arch["num_heads"],
            int(self.arch["mlp_ratio"] * dim),
            merges=mode == "fixed_grid" or merge_ratio > 1,
            implementation=implementation,
        )
        self.freeze()

    def make_position(self, dim: int, size: tuple[int, int], extra_tokens: int) -> nn.Module:
        return FuzzyPositionTable(dim, size, extra_tokens)

    def make_block(
        self, index: int, drop_path: float, windows: bool = True, **options: Any
    ) -> nn.Module:
        arch = self.arch
        return plain_block(
            arch["embed_dims"],
            arch["num_heads"],
            arch["mlp_ratio"],
            per_block(arch, "window_sizes")[index] if windows else None,
            drop_path,
            arch["layer_scale"],
            **options,
        )

    @property
    def num_stages(self) -> int:
        return self.arch["depth"]

    @property
    def stage_strides(self) -> tuple[int, ...]:
        ratio = self.merge_ratio if self.mode == "dense" else 1
        return (self.arch["patch_size"] * ratio,) * self.arch["depth"]

    def embed(self, image: Tensor) -> Tensor:
        x = super().embed(image)
        if self.merger.query is None:
            return map_layout(self.run_block(self.merger, x))
        if self.mode == "dense":
            axes = [end_padded(n, self.merge_ratio, x.device) for n in x.shape[-2:]]
            return map_layout(self.run_block(self.merger, x, Cells.of(*axes, x.shape[-1])))
        return map_layout(self._to_grid(x))

    def _to_grid(self, x: Tensor) -> Tensor:
        """Halves each axis, or makes it the grid's, until both are; one pass follows that."""
        grid = self.position.size
        while True:
            size = x.shape[-2:]
            axes = [
                # an odd number of tokens lacks one; one between 1 and 2 grids all up to 2 grids
                spread_padded(n, max(-(-n // 2), cells), x.device)
                if n > cells
                else end_padded(n, 1, x.device)
                for n, cells in zip(size, grid)
            ]
            x = self.run_block(self.merger, x, Cells.of(*axes, size[1]))
            if all(n <= cells for n, cells in zip(size, grid)):
                return x
