"""SVT, the Scattering Vision Transformer: wavelets in fine stages, attention in coarse ones.

arXiv 2311.01310, NeurIPS 2023. Published for classification of images of 224 pixels; maps of images
of any size are ours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.layers import MLP, Block, LayerNorm2d, MixFFN, ScatterMixer, SoftmaxMixer
from mmeffvit.layers.class_token import ClassAttention
from mmeffvit.layers.init import draw_convolution, draw_linear_layers
from mmeffvit.layers.stem import conv_norm
from mmeffvit.models.backbones.pyramid import Pyramid
from mmeffvit.models.heads.classifiers import last_map
from mmeffvit.models.official import KeyRule, as_conv
from mmeffvit.registry import MODELS

_norm = partial(LayerNorm2d, eps=1e-6)


def _arch(
    stem_dim: int,
    embed_dims: tuple[int, ...],
    depths: tuple[int, ...],
    num_heads: tuple[int, ...],
    scatter_stages: int = 2,
) -> dict[str, Any]:
    return {
        "stem_dim": stem_dim,
        "embed_dims": embed_dims,
        "depths": depths,
        "num_heads": num_heads,
        "mlp_ratios": (8, 8, 4, 4),
        "scatter_stages": scatter_stages,
        "gate_size": 56,
    }


_SMALL = (32, (64, 128, 320, 448), (3, 4, 6, 3), (2, 4, 10, 14))
_BASE = (64, (64, 128, 320, 512), (3, 4, 12, 3), (2, 4, 10, 16))
_LARGE = (64, (96, 192, 384, 512), (3, 6, 18, 3), (3, 6, 12, 16))

_BLOCK = r"block(\d)\.(\d+)\."
_OURS = r"backbone.stages.\1.blocks.\2."


def _conv_norm_relu(in_dim: int, dim: int, kernel_size: int, stride: int) -> list[nn.Module]:
    padding = kernel_size // 2
    conv = nn.Conv2d(in_dim, dim, kernel_size, stride=stride, padding=padding, bias=False)
    return [conv, nn.BatchNorm2d(dim), nn.ReLU()]


class ClassBlockClassifier(BaseModule):
    """A class token that looks at the last map, and logits of it and of every pixel.

    The token begins as the mean of the map; a block of attention, in which it alone asks, and an
    MLP follow. The logits are a linear layer of it, and with token labels half of the largest
    logits of any pixel are added.

    Args:
        in_channels: Channels C of the last map of the backbone, which has no norm.
        num_classes: Number of classes.
        num_heads: Heads of the attention.
        mlp_ratio: Channels inside of the MLP, over C.
        token_labels: Whether pixels have logits of their own.
        init_cfg: Of mmengine.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 1000,
        num_heads: int = 14,
        mlp_ratio: float = 4,
        token_labels: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.norm1, self.norm2, self.norm = (_norm(in_channels) for _ in range(3))
        self.attn = ClassAttention(in_channels, num_heads)
        self.ffn = MLP(in_channels, int(mlp_ratio * in_channels))
        self.fc = nn.Linear(in_channels, num_classes)
        self.aux_fc = nn.Linear(in_channels, num_classes) if token_labels else None
        draw_linear_layers(self)
        for layer in filter(None, (self.fc, self.aux_fc)):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def tokens(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """(B, 1 + N, C) of a map (B, C, H, W), or of the last one of a tuple; class token first."""
        x = last_map(feats).flatten(2).unsqueeze(2)
        token = x.mean(3, keepdim=True)
        token = token + self.attn(self.norm1(torch.cat((token, x), 3)))
        token = token + self.ffn(self.norm2(token))
        return self.norm(torch.cat((token, x), 3))[:, :, 0].transpose(1, 2)

    def forward(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes); `feats` as in :meth:`tokens`."""
        tokens = self.tokens(feats)
        logits = self.fc(tokens[:, 0])
        if self.aux_fc is None:
            return logits
        return logits + 0.5 * self.aux_fc(tokens[:, 1:]).amax(1)


@MODELS.register_module()
class SVT(Pyramid):
    """SVT, small to large (arXiv 2311.01310, variants S, B, L).

    Keys of an arch dict with four entries are ``embed_dims``, ``depths``, ``num_heads`` and
    ``mlp_ratios``. One number each are ``stem_dim`` (channels inside of the stem),
    ``scatter_stages`` (so many stages have `ScatterMixer`, the others attention) and ``gate_size``
    (side of the map of stride 4 that gains were made for; those of other maps are resized).
    The paper's cost is that of two stages with wavelets; the released code has one, and so have
    'small-released', 'base-released' and 'large-released'.

    A stage before the last ends with a norm, which the next stage and the output both read;
    `out_norm` is the norm on the last map.

    Args:
        arch: A name or a dict.
        implementation: Of `mmeffvit.ops.spectral_gating` and `mmeffvit.ops.map_window_attention`;
            None lets them choose.
        **kwargs: Those of `BaseBackbone`.
    """

    family: ClassVar[str] = "svt"
    stage_keys: ClassVar[tuple[str, ...]] = ("embed_dims", "depths", "num_heads", "mlp_ratios")
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "small": _arch(*_SMALL),
        "base": _arch(*_BASE),
        "large": _arch(*_LARGE),
        "small-released": _arch(*_SMALL, scatter_stages=1),
        "base-released": _arch(*_BASE, scatter_stages=1),
        "large-released": _arch(*_LARGE, scatter_stages=1),
    }
    drop_path_rates: ClassVar[dict[str, float]] = {
        name: 0.3 if name.startswith("large") else 0.1 for name in arch_zoo
    }
    out_norm_eps: ClassVar[float] = 1e-6
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        KeyRule(r"patch_embed1\.(conv\.\d|proj|norm)\.(\w+)", r"backbone.stem.\1.\2"),
        KeyRule(
            r"patch_embed(\d)\.proj\.(\w+)", r"backbone.stages.\1.downsample.conv.\2", shift=-1
        ),
        KeyRule(
            r"patch_embed(\d)\.norm\.(\w+)", r"backbone.stages.\1.downsample.norm.\2", shift=-1
        ),
        KeyRule(r"norm4\.(\w+)", r"backbone.out_norms.3.\1", row=...),
        KeyRule(r"norm4\.(\w+)", r"head.norm.\1", row=...),
        KeyRule(r"norm(\d)\.(\w+)", r"backbone.stages.\1.norm.\2", shift=-1),
        KeyRule(rf"{_BLOCK}(norm\d)\.(\w+)", rf"{_OURS}\3.\4", shift=-1),
        KeyRule(
            rf"{_BLOCK}attn\.complex_weight_ll",
            rf"{_OURS}mixer.gate.table",
            shift=-1,
            transform=lambda t: t.flatten(1).T[None].contiguous(),
        ),
        KeyRule(rf"{_BLOCK}attn\.complex_weight_lh_(\d)", rf"{_OURS}mixer.weight\3", shift=-1),
        KeyRule(rf"{_BLOCK}attn\.complex_weight_lh_b(\d)", rf"{_OURS}mixer.bias\3", shift=-1),
        KeyRule(rf"{_BLOCK}attn\.[xi]fm\..+", None, reason="a filter, whose taps never change"),
        *(
            KeyRule(
                rf"{_BLOCK}attn\.{theirs}\.(\w+)",
                rf"{_OURS}mixer.{ours}.\3",
                part=part,
                shift=-1,
                transform=as_conv,
            )
            for theirs, ours, part in (
                ("q", "qkv", (0, 2)),
                ("kv", "qkv", (1, 2)),
                ("proj", "proj", (0, 1)),
            )
        ),
        KeyRule(
            rf"{_BLOCK}mlp\.(?:dwconv\.)?(dwconv|fc\d)\.(\w+)",
            rf"{_OURS}ffn.\3.\4",
            shift=-1,
            transform=as_conv,
        ),
        KeyRule(r"post_network\.0\.(norm\d)\.(\w+)", r"head.\1.\2"),
        KeyRule(r"post_network\.0\.attn\.(\w+)\.(\w+)", r"head.attn.\1.\2", transform=as_conv),
        KeyRule(r"post_network\.0\.mlp\.(\w+)\.(\w+)", r"head.ffn.\1.\2", transform=as_conv),
        KeyRule(r"head\.(\w+)", r"head.fc.\1"),
        KeyRule(r"aux_head\.(\w+)", r"head.aux_fc.\1"),
    )

    def __init__(
        self, arch: str | dict[str, Any] = "small", implementation: str | None = None, **kwargs
    ):
        super().__init__(arch, block_options={"implementation": implementation}, **kwargs)

    def make_stem(self, in_channels: int, dim: int) -> nn.Module:
        hidden = self.arch["stem_dim"]
        layers = _conv_norm_relu(in_channels, hidden, 7, 2)
        for _ in range(2):
            layers += _conv_norm_relu(hidden, hidden, 3, 1)
        proj = nn.Conv2d(hidden, dim, 3, stride=2, padding=1)
        norm = LayerNorm2d(dim, eps=1e-5)
        return nn.Sequential(OrderedDict(conv=nn.Sequential(*layers), proj=proj, norm=norm))

    def make_merge(self, in_dim: int, dim: int) -> nn.Module:
        return conv_norm(in_dim, dim, kernel_size=3, stride=2, padding=1)

    def make_norm_after(self, stage: int) -> nn.Module:
        last = stage == self.num_stages - 1
        return nn.Identity() if last else _norm(self.arch["embed_dims"][stage])

    def has_out_norm(self, stage: int) -> bool:
        return self.out_norm and stage == self.num_stages - 1

    def make_block(self, stage: int, index: int, drop_path: float, **options) -> nn.Module:
        arch = self.stage_arch(stage)
        dim, heads = arch["embed_dims"], arch["num_heads"]
        if stage < self.arch["scatter_stages"]:
            side = max(self.arch["gate_size"] >> stage, 1)
            mixer = ScatterMixer(dim, heads, (side, side), **options)
        else:
            mixer = SoftmaxMixer(dim, heads, **options)
        ffn = MixFFN(dim, int(arch["mlp_ratios"] * dim))
        return Block(dim, mixer, ffn, norm=_norm, drop_path=drop_path)

    def make_head(self, num_classes: int, token_labels: bool = True) -> nn.Module:
        heads, ratio = self.arch["num_heads"][-1], self.arch["mlp_ratios"][-1]
        return ClassBlockClassifier(self.out_channels[-1], num_classes, heads, ratio, token_labels)

    def reset_parameters(self) -> None:
        """Linear layers are normal of std 0.02, convolutions by their fan-out; no bias."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
                draw_convolution(module)
        draw_linear_layers(self)
