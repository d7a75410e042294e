"""ResFormer: a plain ViT whose positions are made for any resolution (arXiv 2212.00776)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from mmeffvit.layers import MLP, Block, LayerNorm2d, MapContext, SharedLePEMixer
from mmeffvit.layers.sine_position import ConvSinePosition
from mmeffvit.models.backbones.plain import PlainViT
from mmeffvit.models.official import PLAIN_RULES, KeyRule
from mmeffvit.models.published.resformer import WEIGHTS
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS


def _arch(dim: int, num_heads: int) -> dict[str, Any]:
    return {
        "embed_dims": dim,
        "depth": 12,
        "num_heads": num_heads,
        "mlp_ratio": 4,
        "patch_size": 16,
        "extra_tokens": 1,
    }


@MODELS.register_module()
class ResFormer(PlainViT):
    """ResFormer, tiny to base (arXiv 2212.00776).

    A convolution of a map of sines says where a token is in the image, a convolution of the values
    in every block what is beside it. No weight has the size of a map. Positions follow the padded
    image, as everywhere where images of a batch are padded.

    The keys of an arch dict are ``embed_dims``, ``depth``, ``num_heads``, ``mlp_ratio``,
    ``patch_size`` and ``extra_tokens``: 1 for the class token, 0 to do without it.

    Args:
        arch: 'tiny', 'small', 'base' or a dict.
        **kwargs: Those of `PlainViT`.
    """

    family: ClassVar[str] = "resformer"
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": _arch(192, 3),
        "small": _arch(384, 6),
        "base": _arch(768, 12),
    }
    drop_path_rates: ClassVar[dict[str, float]] = {"tiny": 0.1, "small": 0.1, "base": 0.2}
    weights: ClassVar[tuple[WeightsFile, ...]] = WEIGHTS
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        KeyRule(r"pos_embed\.embed_layer\.(\w+)", r"backbone.position.conv.\1"),
        KeyRule(r"blocks\.(\d+)\.attn\.get_v\.(\w+)", r"backbone.blocks.\1.mixer.lepe.\2"),
        *PLAIN_RULES,
        KeyRule(r"cls_token", r"backbone.extra_tokens.weight", transform=lambda t: t[0]),
        # the authors' norm follows the last of 12 blocks
        KeyRule(r"norm\.(\w+)", r"backbone.out_norms.11.\1"),
        KeyRule(r"head\.(\w+)", r"head.fc.\1"),
    )

    def __init__(self, arch: str | dict[str, Any] = "small", *args: Any, **kwargs: Any):
        super().__init__(arch, *args, **kwargs)

    def make_position(self, dim: int, size: tuple[int, int], extra_tokens: int) -> nn.Module:
        return ConvSinePosition(dim)

    def make_context(self, x: torch.Tensor, size: tuple[int, int]) -> MapContext:
        # of the map, as convolutions want it, though tokens may come in a row
        return MapContext(*size, x.device)

    def make_block(self, index: int, drop_path: float, **options: Any) -> nn.Module:
        dim, hidden = self.arch["embed_dims"], int(self.arch["mlp_ratio"] * self.arch["embed_dims"])
        mixer = SharedLePEMixer(dim, self.arch["num_heads"], **options)
        norm = partial(LayerNorm2d, eps=1e-6)
        return Block(dim, mixer, MLP(dim, hidden), norm=norm, drop_path=drop_path)

    def check_arch(self) -> None:
        """Every positive size is possible; channels are checked where they are used."""
