"""ViTAR: a vision transformer for any resolution (arXiv 2403.18361).

No code or weights of it were published. What the paper leaves open, and what was chosen here, is in
configs/vitar/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from mmeffvit.layers import FuzzyPositionTable
from mmeffvit.layers.token_merger import Cells, TokenMerger, end_padded, spread_padded
from mmeffvit.models.backbones.base import MapEdit
from mmeffvit.models.backbones.plain import PlainViT, plain_block
from mmeffvit.models.official import PLAIN_RULES, KeyRule
from mmeffvit.ops import map_layout
from mmeffvit.registry import MODELS

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
        arch = self.arch if windows else {**self.arch, "window_sizes": None}
        return plain_block(arch, index, drop_path, **options)

    @property
    def num_stages(self) -> int:
        return self.arch["depth"]

    @property
    def stage_strides(self) -> tuple[int, ...]:
        ratio = self.merge_ratio if self.mode == "dense" else 1
        return (self.arch["patch_size"] * ratio,) * self.arch["depth"]

    def embed(self, image: Tensor, edit: MapEdit | None = None) -> Tensor:
        x = super().embed(image, edit)
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
