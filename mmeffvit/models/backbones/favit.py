"""FaViT: factorization self-attention in the frame of PVTv2 (arXiv 2312.08614).

The authors' dense backbones equal this network; their classifiers equal it with
`LinearClassifier` on its last map.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from torch import nn

from mmeffvit.layers import Block, FactorizationMixer, LayerNorm2d, MixFFN
from mmeffvit.layers.init import draw_convolution
from mmeffvit.layers.stem import conv_norm
from mmeffvit.models.backbones.pyramid import Pyramid
from mmeffvit.models.heads.classifiers import LinearClassifier
from mmeffvit.models.official import KeyRule
from mmeffvit.registry import MODELS

_norm = partial(LayerNorm2d, eps=1e-6)

_MIXER = r"block(\d)\.(\d+)\.attn\."
_BLOCK = r"backbone.stages.\1.blocks.\2."
#: 1x1 convolutions that are linear layers of the authors, by the ends of their names
_LINEAR = ("mixer.q", "mixer.reduced.kv", "mixer.proj", "ffn.fc1", "ffn.fc2")


def _arch(dim: int, depths: tuple[int, ...]) -> dict[str, Any]:
    return {
        "embed_dims": (dim, 2 * dim, 4 * dim, 8 * dim),
        "depths": depths,
        "num_heads": (1, 2, 4, 8),
        "mlp_ratios": (8, 6, 4, 4),
        "reductions": (8, 4, 2, 1),
        "window_size": 7,
    }


def _mixer_rules() -> tuple[KeyRule, ...]:
    """Layers of the attention, with the weights of linear ones as 1x1 convolutions."""
    names = {
        r"q": ("q", 4),
        r"proj": ("proj", 4),
        r"kv_g": ("reduced.kv", 4),
        r"sr": ("reduced.reduce", None),
        r"norm": ("reduced.norm", None),
        r"local_conv_g": ("reduced.enhance", None),
        r"kv_l\.depth_conv": ("depth", None),
        r"kv_l\.point_conv": ("point", None),
    }
    rules = []
    for theirs, (ours, ndim) in names.items():
        target = f"{_BLOCK}mixer.{ours}."
        rules += [
            KeyRule(rf"{_MIXER}{theirs}\.weight", f"{target}weight", ndim=ndim, shift=-1),
            KeyRule(rf"{_MIXER}{theirs}\.bias", f"{target}bias", shift=-1),
        ]
    for theirs, ours in (("fcs", "fc"), ("single_heads", "kv"), ("local_convs", "enhance")):
        target = rf"{_BLOCK}mixer.summaries.\3.{ours}.\4"
        rules.append(KeyRule(rf"{_MIXER}{theirs}\.(\d)\.(\w+)", target, shift=-1))
    return tuple(rules)


@MODELS.register_module()
class FaViT(Pyramid):
    """FaViT, B0 to B3 (arXiv 2312.08614).

    The keys of an arch dict, four entries each, are ``embed_dims``, ``depths``, ``num_heads``,
    ``mlp_ratios`` and ``reductions``; see `FactorizationMixer` for what fits together.
    ``window_size`` is one number. A stage ends with a norm, which the next stage and the output
    both read.

    Args:
        arch: 'b0', 'b1', 'b2', 'b3' or a dict.
        implementation: Of `mmeffvit.ops.dilated_summaries` and `mmeffvit.ops.summary_attention`;
            None lets them choose.
        out_norm: Put another norm on each returned map, which the authors do not.
        **kwargs: Those of `BaseBackbone`.
    """

    family: ClassVar[str] = "favit"
    stage_keys: ClassVar[tuple[str, ...]] = (
        "embed_dims",
        "depths",
        "num_heads",
        "mlp_ratios",
        "reductions",
    )
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "b0": _arch(32, (2, 2, 6, 2)),
        "b1": _arch(64, (2, 2, 6, 2)),
        "b2": _arch(64, (2, 3, 18, 3)),
        "b3": _arch(96, (2, 3, 14, 3)),
    }
    # of the classifier b0, and of all dense backbones
    drop_path_rates: ClassVar[dict[str, float]] = dict.fromkeys(arch_zoo, 0.1)
    out_norm_eps: ClassVar[float] = 1e-6
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        KeyRule(r"patch_embed1\.proj\.(\w+)", r"backbone.stem.conv.\1"),
        KeyRule(r"patch_embed1\.norm\.(\w+)", r"backbone.stem.norm.\1"),
        KeyRule(
            r"patch_embed(\d)\.proj\.(\w+)", r"backbone.stages.\1.downsample.conv.\2", shift=-1
        ),
        KeyRule(
            r"patch_embed(\d)\.norm\.(\w+)", r"backbone.stages.\1.downsample.norm.\2", shift=-1
        ),
        KeyRule(r"norm(\d)\.(\w+)", r"backbone.stages.\1.norm.\2", shift=-1),
        KeyRule(r"block(\d)\.(\d+)\.(norm\d)\.(\w+)", rf"{_BLOCK}\3.\4", shift=-1),
        *_mixer_rules(),
        KeyRule(
            r"block(\d)\.(\d+)\.mlp\.(fc\d)\.weight", rf"{_BLOCK}ffn.\3.weight", ndim=4, shift=-1
        ),
        KeyRule(r"block(\d)\.(\d+)\.mlp\.(fc\d)\.bias", rf"{_BLOCK}ffn.\3.bias", shift=-1),
        KeyRule(
            r"block(\d)\.(\d+)\.mlp\.dwconv\.dwconv\.(\w+)", rf"{_BLOCK}ffn.dwconv.\3", shift=-1
        ),
        KeyRule(r"head\.(\w+)", r"head.fc.\1"),
    )

    def __init__(
        self,
        arch: str | dict[str, Any] = "b0",
        implementation: str | None = None,
        out_norm: bool = False,
        **kwargs,
    ):
        options = {"implementation": implementation}
        super().__init__(arch, block_options=options, out_norm=out_norm, **kwargs)

    def make_stem(self, in_channels: int, dim: int) -> nn.Module:
        return conv_norm(in_channels, dim, kernel_size=7, stride=4, padding=3)

    def make_merge(self, in_dim: int, dim: int) -> nn.Module:
        return conv_norm(in_dim, dim, kernel_size=3, stride=2, padding=1)

    def make_stage_norm(self, dim: int) -> nn.Module:
        return _norm(dim)

    def make_block(self, stage: int, index: int, drop_path: float, **options) -> nn.Module:
        arch = self.stage_arch(stage)
        dim, window = arch["embed_dims"], self.arch["window_size"]
        mixer = FactorizationMixer(dim, arch["num_heads"], arch["reductions"], window, **options)
        ffn = MixFFN(dim, int(arch["mlp_ratios"] * dim))
        return Block(dim, mixer, ffn, norm=_norm, drop_path=drop_path)

    def make_head(self, num_classes: int) -> nn.Module:
        return LinearClassifier(self.out_channels[-1], num_classes)

    def reset_parameters(self) -> None:
        """Linear layers are normal of std 0.02, convolutions by their fan-out; no bias."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) or name.endswith(_LINEAR):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                draw_convolution(module)
