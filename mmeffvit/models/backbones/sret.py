"""SReT: a pyramid whose blocks run twice, with attention inside groups of tokens.

arXiv 2111.05297, ECCV 2022. Published for classification; the map of stride 4, and images of any
size, are ours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmeffvit.layers import MLP, DropPath, GroupMixer, LayerNorm2d, MapContext, PositionTable
from mmeffvit.models.backbones.pyramid import Pyramid
from mmeffvit.models.heads.classifiers import PooledNormClassifier
from mmeffvit.models.official import KeyRule, as_conv
from mmeffvit.models.published.sret import WEIGHTS
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS

_norm = partial(LayerNorm2d, eps=1e-6)


def _arch(
    base_dim: int, heads: tuple[int, int, int], mlp_ratio: float, nll_ratio: float
) -> dict[str, Any]:
    dims = tuple(base_dim * h for h in heads)
    return {
        "embed_dims": (dims[0], *dims),
        "depths": (0, 2, 5, 3),
        "num_heads": (1, *heads),
        "groups": ((1, 1), (8, 2), (4, 1), (1, 1)),
        "mlp_ratio": mlp_ratio,
        "nll_ratio": nll_ratio,
        "loops": 2,
        "image_size": 224,
    }


def _conv_norm(number: int, in_dim: int, dim: int) -> OrderedDict[str, nn.Module]:
    """One of the stem's convolutions of stride 2, by the authors' names."""
    conv = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1)
    return OrderedDict(
        {f"conv{number}": conv, f"bn{number}": nn.BatchNorm2d(dim), f"relu{number}": nn.ReLU()}
    )


class GainedBlock(nn.Module):
    """A block whose stream and branches have learnt gains, a number each.

    ``x = a1 x + a2 mixer(norm1(x))``, then ``x = a3 x + a4 ffn(norm2(x))``. Without a mixer the
    second half alone, with two gains: the non-linear projection after each use of a block.
    """

    def __init__(self, dim: int, mixer: nn.Module | None, ffn: nn.Module, drop_path: float = 0.0):
        super().__init__()
        self.norm1 = _norm(dim) if mixer is not None else None
        self.mixer = mixer
        self.norm2 = _norm(dim)
        self.ffn = ffn
        self.gains = nn.Parameter(torch.ones(2 if mixer is None else 4))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, context: MapContext, index: int = 0) -> Tensor:
        *gains, stream, branch = self.gains
        if self.mixer is not None:
            mixed = self.drop_path(self.mixer(self.norm1(x), context, index))
            x = gains[0] * x + gains[1] * mixed
        return stream * x + branch * self.drop_path(self.ffn(self.norm2(x)))


class RecursiveUnit(nn.Module):
    """A block that runs once for each of the projections that follow its uses."""

    def __init__(self, block: nn.Module, projections: Sequence[nn.Module]):
        super().__init__()
        self.block = block
        self.projections = nn.ModuleList(projections)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        for index, projection in enumerate(self.projections):
            x = projection(self.block(x, context, index), context)
        return x


def _unit_rules(unit: int) -> tuple[KeyRule, ...]:
    """Keys of a unit of two loops: block, projection, the same block again, projection."""
    rules = [
        KeyRule(
            rf"transformers\.(\d)\.blocks\.{4 * unit + 2}\.(.+)",
            None,
            reason="the second use of a block whose weights are shared",
            same_as=rf"transformers.\1.blocks.{4 * unit}.\2",
        )
    ]
    for number, part, gains in ((0, "block", 4), (1, "projections.0", 2), (3, "projections.1", 2)):
        theirs = rf"transformers\.(\d)\.blocks\.{4 * unit + number}\."
        ours = rf"backbone.stages.\1.blocks.{unit}.{part}."
        # a projection has one norm, the second of a block
        norms = (("norm1", "norm1"), ("norm2", "norm2")) if gains == 4 else (("norm1", "norm2"),)
        names = (*norms, ("attn", "mixer"), ("mlp", "ffn"))
        rules += [
            KeyRule(rf"{theirs}{a}\.(.+)", rf"{ours}{b}.\2", shift=1, transform=as_conv)
            for a, b in names
        ]
        rules += [
            KeyRule(rf"{theirs}coefficient{i + 1}\.bias", f"{ours}gains", shift=1, part=(i, gains))
            for i in range(gains)
        ]
    return tuple(rules)


@MODELS.register_module()
class SReT(Pyramid):
    """SReT (arXiv 2111.05297): T, LT and S.

    Stage 0, of stride 4, is the stem alone; the published network is the others. A stage has
    ``depths`` units, each a block that is used ``loops`` times with a non-linear projection of its
    own after each use. Keys of an arch dict with four entries are ``embed_dims``, ``depths``,
    ``num_heads`` and ``groups`` (number of groups in each loop); one number each are ``mlp_ratio``,
    ``nll_ratio`` (of the projections), ``loops`` and ``image_size`` (of the square that the map of
    positions was made for, which is resized to others).

    Args:
        arch: 'tiny', 'lt', 'small' or a dict.
        sliced: Whether attention is inside groups; all weights serve both.
        order: See `GroupMixer`.
        implementation: Of `mmeffvit.ops.grouped_attention`; None lets it choose.
        **kwargs: Those of `BaseBackbone`.
    """

    family: ClassVar[str] = "sret"
    stage_keys: ClassVar[tuple[str, ...]] = ("embed_dims", "depths", "num_heads", "groups")
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": _arch(32, (2, 4, 8), 3.6, 1),
        "lt": _arch(32, (2, 4, 8), 4.0, 1),
        "small": _arch(42, (3, 6, 12), 3.0, 2),
    }
    drop_path_rates: ClassVar[dict[str, float]] = dict.fromkeys(arch_zoo, 0.1)
    out_norm_eps: ClassVar[float] = 1e-6
    weights: ClassVar[tuple[WeightsFile, ...]] = WEIGHTS
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        KeyRule(
            r"pos_embed",
            r"backbone.stages.1.downsample.position.table",
            transform=lambda t: t.flatten(2).transpose(1, 2),
        ),
        KeyRule(r"patch_embed\.((?:conv|bn)[12]\.\w+)", r"backbone.stem.\1"),
        KeyRule(r"patch_embed\.((?:conv|bn)3\.\w+)", r"backbone.stages.1.downsample.\1"),
        KeyRule(r"pools\.(\d)\.conv\.(\w+)", r"backbone.stages.\1.downsample.conv.\2", shift=2),
        *(rule for unit in range(12) for rule in _unit_rules(unit)),
        KeyRule(r"norm\.(\w+)", r"head.norm.\1"),
        KeyRule(r"head\.(\w+)", r"head.fc.\1"),
    )

    def __init__(
        self,
        arch: str | dict[str, Any] = "tiny",
        sliced: bool = True,
        order: str = "shuffled",
        implementation: str | None = None,
        **kwargs,
    ):
        options = {"sliced": sliced, "order": order, "implementation": implementation}
        super().__init__(arch, block_options=options, **kwargs)

    def make_stem(self, in_channels: int, dim: int) -> nn.Module:
        first = _conv_norm(1, in_channels, dim // 2)
        return nn.Sequential(OrderedDict(first | _conv_norm(2, dim // 2, dim)))

    def make_stage_merge(self, stage: int) -> nn.Module:
        in_dim, dim = self.arch["embed_dims"][stage - 1 : stage + 1]
        if stage == 1:
            side = self.arch["image_size"] // 8
            position = OrderedDict(position=PositionTable(dim, (side, side)))
            return nn.Sequential(OrderedDict(_conv_norm(3, in_dim, dim) | position))
        conv = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1, groups=in_dim)
        return nn.Sequential(OrderedDict(conv=conv))

    def make_block(
        self, stage: int, index: int, drop_path: float, sliced: bool, **options: Any
    ) -> nn.Module:
        arch, depths = self.arch, self.arch["depths"]
        dim, heads = arch["embed_dims"][stage], arch["num_heads"][stage]
        # as published, rates count uses of blocks: a unit has that of one of its stage's first
        uses = arch["loops"] * sum(depths[:stage]) + index
        rate = self.drop_path_rate * uses / (arch["loops"] * sum(depths))
        mixer = GroupMixer(dim, heads, arch["groups"][stage] if sliced else 1, **options)
        block = GainedBlock(dim, mixer, MLP(dim, int(arch["mlp_ratio"] * dim)), rate)
        hidden = int(arch["nll_ratio"] * dim)
        projections = [GainedBlock(dim, None, MLP(dim, hidden)) for _ in range(arch["loops"])]
        return RecursiveUnit(block, projections)

    def make_head(self, num_classes: int) -> nn.Module:
        return PooledNormClassifier(self.out_channels[-1], num_classes, eps=1e-6)
