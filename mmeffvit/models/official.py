"""How the keys of official checkpoints are written down, for `mmeffvit.checkpoint`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import EllipsisType

from torch import Tensor


@dataclass(frozen=True)
class KeyRule:
    """One line of a key map.

    Attributes:
        pattern: Regular expression that matches a whole official key.
        target: Our key, with ``\\1`` for groups; None drops the key.
        ndim: Number of axes of our tensor, where the official one has more or fewer of size one.
        part: ``(i, n)`` for the i-th of n tensors that are joined, on their first axis, into ours.
        row: Which row of the official tensor is ours, where its rows are several of ours; all rules
            that match the key and have one apply. ``...`` takes all of it, where it becomes several
            of ours.
        shift: Added to the first group, as a number, before it is put into the target.
        reason: Why a key is dropped.
        same_as: Official key, with ``\\1`` for groups, whose tensor a dropped one must equal.
        transform: Makes our tensor from the official one, where more than axes differ.
    """

    pattern: str
    target: str | None
    ndim: int | None = None
    part: tuple[int, int] = (0, 1)
    row: int | EllipsisType | None = None
    shift: int = 0
    reason: str = ""
    transform: Callable[[Tensor], Tensor] | None = None
    same_as: str = ""

    def match(self, key: str) -> re.Match | None:
        return re.fullmatch(self.pattern, key)

    def rename(self, match: re.Match) -> str | None:
        if self.target is None:
            return None
        groups = list(match.groups())
        if self.shift:
            groups[0] = str(int(groups[0]) + self.shift)
        return re.sub(r"\\(\d)", lambda m: groups[int(m.group(1)) - 1], self.target)


#: what SecViT, RAVLT, SSViT and in part RMT have in common; ours on the right
PYRAMID_RULES: tuple[KeyRule, ...] = (
    KeyRule(r"patch_embed\.proj\.(\d+)\.(\w+)", r"backbone.stem.\1.\2"),
    KeyRule(
        r"layers\.(\d+)\.RoPE\.angle",
        None,
        reason="a table that is computed from the head dimension",
    ),
    KeyRule(
        r"layers\.(\d+)\.blocks\.(\d+)\.norm([12])\.norm\.(\w+)",
        r"backbone.stages.\1.blocks.\2.norm\3.\4",
    ),
    KeyRule(
        r"layers\.(\d+)\.blocks\.(\d+)\.gamma_([12])",
        r"backbone.stages.\1.blocks.\2.layer_scale\3.gamma",
        ndim=1,
    ),
    KeyRule(
        r"layers\.(\d+)\.blocks\.(\d+)\.(pos|ffn\.\w+)\.(weight|bias)",
        r"backbone.stages.\1.blocks.\2.\3.\4",
    ),
    KeyRule(
        r"layers\.(\d+)\.downsample\.reduction\.(\w+)",
        r"backbone.stages.\1.downsample.conv.\2",
        shift=1,
    ),
    KeyRule(
        r"layers\.(\d+)\.downsample\.norm\.(\w+)",
        r"backbone.stages.\1.downsample.norm.\2",
        shift=1,
    ),
    KeyRule(r"(proj|norm)\.(\w+)", r"head.\1.\2"),
    KeyRule(r"head\.(weight)", r"head.fc.\1", ndim=2),
    KeyRule(r"head\.(bias)", r"head.fc.\1"),
)

#: the attention of SecViT and SSViT, on `mmeffvit.layers.LePEAttention`
LEPE_ATTENTION_RULES: tuple[KeyRule, ...] = (
    KeyRule(
        r"layers\.(\d+)\.blocks\.(\d+)\.attn\.(qkv|lepe)\.(\w+)",
        r"backbone.stages.\1.blocks.\2.mixer.\3.\4",
    ),
    KeyRule(
        r"layers\.(\d+)\.blocks\.(\d+)\.attn\.out_proj\.(\w+)",
        r"backbone.stages.\1.blocks.\2.mixer.proj.\3",
    ),
)

_BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
_OURS = r"backbone.stages.\1.blocks.\2."

#: the blocks of RMT and PPMA and their classifiers' linear layers; before `PYRAMID_RULES`
RETENTION_RULES: tuple[KeyRule, ...] = (
    *(
        KeyRule(
            rf"{_BLOCK}retention\.{name}_proj\.{kind}",
            rf"{_OURS}mixer.qkv.{kind}",
            ndim=ndim,
            part=(index, 3),
        )
        for index, name in enumerate("qkv")
        for kind, ndim in (("weight", 4), ("bias", 1))
    ),
    KeyRule(rf"{_BLOCK}retention\.out_proj\.weight", rf"{_OURS}mixer.proj.weight", ndim=4),
    KeyRule(rf"{_BLOCK}retention\.out_proj\.bias", rf"{_OURS}mixer.proj.bias"),
    KeyRule(rf"{_BLOCK}retention\.lepe\.conv\.(\w+)", rf"{_OURS}mixer.lepe.\3"),
    KeyRule(rf"{_BLOCK}retention_layer_norm\.(\w+)", rf"{_OURS}norm1.\3"),
    KeyRule(rf"{_BLOCK}final_layer_norm\.(\w+)", rf"{_OURS}norm2.\3"),
    KeyRule(rf"{_BLOCK}(pos|ffn\.dwconv)\.conv\.(\w+)", rf"{_OURS}\3.\4"),
    KeyRule(rf"{_BLOCK}ffn\.(fc[12])\.weight", rf"{_OURS}ffn.\3.weight", ndim=4),
    KeyRule(r"proj\.weight", r"head.proj.weight", ndim=4),
)


def as_conv(weight: Tensor) -> Tensor:
    """The weight of a linear layer as that of a 1x1 convolution; others as they are."""
    return weight[..., None, None] if weight.dim() == 2 else weight


#: embedding and blocks of the authors' and of timm's plain ViTs, and ours on the right
PLAIN_RULES: tuple[KeyRule, ...] = (
    KeyRule(r"patch_embed\.proj\.(\w+)", r"backbone.patch_embed.\1"),
    KeyRule(r"pos_embed", r"backbone.position.table"),
    KeyRule(r"blocks\.(\d+)\.(norm\d)\.(\w+)", r"backbone.blocks.\1.\2.\3"),
    KeyRule(
        r"blocks\.(\d+)\.attn\.(qkv|proj)\.(\w+)",
        r"backbone.blocks.\1.mixer.\2.\3",
        transform=as_conv,
    ),
    KeyRule(
        r"blocks\.(\d+)\.mlp\.(fc\d)\.(\w+)", r"backbone.blocks.\1.ffn.\2.\3", transform=as_conv
    ),
    # layer scale, as timm and DINOv2 name it, and as ViT-CoMer does
    KeyRule(r"blocks\.(\d+)\.ls(\d)\.gamma", r"backbone.blocks.\1.layer_scale\2.gamma"),
    KeyRule(r"blocks\.(\d+)\.gamma(\d)", r"backbone.blocks.\1.layer_scale\2.gamma"),
)
