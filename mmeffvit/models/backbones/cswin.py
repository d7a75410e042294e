"""CSWin Transformer: attention in cross-shaped windows (arXiv 2107.00652).

The authors' dense backbones equal this network; their classifiers equal it with `out_norm=False`
and `NormClassifier` on its last map.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from torch import nn

from mmeffvit.layers import MLP, Block, CrossShapedMixer, LayerNorm2d
from mmeffvit.layers.init import draw_linear_layers
from mmeffvit.layers.stem import conv_norm
from mmeffvit.models.backbones.pyramid import Pyramid
from mmeffvit.models.heads.classifiers import NormClassifier
from mmeffvit.models.official import KeyRule
from mmeffvit.models.published.cswin import WEIGHTS
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS

_norm = partial(LayerNorm2d, eps=1e-5)


def _arch(dim, depths, num_heads, stripe_widths=(1, 2, 7, None)) -> dict[str, Any]:
    return {
        "embed_dims": (dim, 2 * dim, 4 * dim, 8 * dim),
        "depths": depths,
        "num_heads": num_heads,
        "mlp_ratios": (4, 4, 4, 4),
        "stripe_widths": stripe_widths,
    }


_STAGE = r"stage(\d)\.(\d+)\."
_BLOCK = r"backbone.stages.\1.blocks.\2."


@MODELS.register_module()
class CSWin(Pyramid):
    """CSWin, tiny to large (arXiv 2107.00652, variants T, S, B, L).

    The keys of an arch dict, four entries each, are ``embed_dims``, ``depths``, ``num_heads`` (even
    where there are stripes), ``mlp_ratios`` and ``stripe_widths`` (None: the whole map attends).
    'base-384' and 'large-384' were trained for images of 384 pixels, with wider stripes; their
    weights have the same shapes as those of 'base' and 'large'.

    Args:
        arch: 'tiny', 'small', 'base', 'large', 'base-384', 'large-384' or a dict.
        implementation: Of `mmeffvit.ops.map_window_attention`; None lets it choose.
        **kwargs: Those of `BaseBackbone`.
    """

    family: ClassVar[str] = "cswin"
    stage_keys: ClassVar[tuple[str, ...]] = (
        "embed_dims",
        "depths",
        "num_heads",
        "mlp_ratios",
        "stripe_widths",
    )
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": _arch(64, (1, 2, 21, 1), (2, 4, 8, 16)),
        "small": _arch(64, (2, 4, 32, 2), (2, 4, 8, 16)),
        "base": _arch(96, (2, 4, 32, 2), (4, 8, 16, 32)),
        "large": _arch(144, (2, 4, 32, 2), (6, 12, 24, 24)),
        "base-384": _arch(96, (2, 4, 32, 2), (4, 8, 16, 32), (1, 2, 12, None)),
        "large-384": _arch(144, (2, 4, 32, 2), (6, 12, 24, 24), (1, 2, 12, None)),
    }
    # of the classifiers; for fine-tuning large-384 none is stated, and it has that of large
    drop_path_rates: ClassVar[dict[str, float]] = {
        "tiny": 0.2,
        "small": 0.4,
        "base": 0.5,
        "large": 0.2,
        "base-384": 0.7,
        "large-384": 0.2,
    }
    # the stem's padding of 2 rounds a side down unless it is a multiple of 4
    size_divisor: ClassVar[int] = 4
    weights: ClassVar[tuple[WeightsFile, ...]] = WEIGHTS
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        KeyRule(r"stage1_conv_embed\.0\.(\w+)", r"backbone.stem.conv.\1"),
        KeyRule(r"stage1_conv_embed\.2\.(\w+)", r"backbone.stem.norm.\1"),
        KeyRule(r"merge(\d)\.(conv|norm)\.(\w+)", r"backbone.stages.\1.downsample.\2.\3"),
        KeyRule(rf"{_STAGE}(norm\d)\.(\w+)", rf"{_BLOCK}\3.\4", shift=-1),
        KeyRule(rf"{_STAGE}(qkv|proj)\.weight", rf"{_BLOCK}mixer.\3.weight", ndim=4, shift=-1),
        KeyRule(rf"{_STAGE}(qkv|proj)\.bias", rf"{_BLOCK}mixer.\3.bias", shift=-1),
        KeyRule(rf"{_STAGE}attns\.(\d)\.get_v\.(\w+)", rf"{_BLOCK}mixer.lepe.\3.\4", shift=-1),
        KeyRule(rf"{_STAGE}mlp\.(fc\d)\.weight", rf"{_BLOCK}ffn.\3.weight", ndim=4, shift=-1),
        KeyRule(rf"{_STAGE}mlp\.(fc\d)\.bias", rf"{_BLOCK}ffn.\3.bias", shift=-1),
        KeyRule(r"norm(\d)\.(\w+)", r"backbone.out_norms.\1.\2", shift=-1),
        KeyRule(r"norm\.(\w+)", r"head.norm.\1"),
        KeyRule(r"head\.(\w+)", r"head.fc.\1"),
    )

    def __init__(
        self, arch: str | dict[str, Any] = "tiny", implementation: str | None = None, **kwargs
    ):
        super().__init__(arch, block_options={"implementation": implementation}, **kwargs)

    def make_stem(self, in_channels: int, dim: int) -> nn.Module:
        return conv_norm(in_channels, dim, kernel_size=7, stride=4, padding=2)

    def make_merge(self, in_dim: int, dim: int) -> nn.Module:
        return conv_norm(in_dim, dim, kernel_size=3, stride=2, padding=1)

    def make_block(self, stage: int, index: int, drop_path: float, **options) -> nn.Module:
        arch = self.stage_arch(stage)
        dim = arch["embed_dims"]
        mixer = CrossShapedMixer(dim, arch["num_heads"], arch["stripe_widths"], **options)
        ffn = MLP(dim, int(arch["mlp_ratios"] * dim))
        return Block(dim, mixer, ffn, norm=_norm, drop_path=drop_path)

    def make_head(self, num_classes: int) -> nn.Module:
        return NormClassifier(self.out_channels[-1], num_classes)

    def reset_parameters(self) -> None:
        draw_linear_layers(self)
