"""RAVLT: rank-augmented linear attention (RALA, arXiv 2411.07635).

The first two stages use linear attention, the last two softmax attention, as their maps are small.
The published classifiers equal this network with `out_norm=False` and `ConvClsHead` on its last
map; the published detectors and segmentors hold exactly this network, called GLTA there.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmeffvit.layers import GatedSoftmaxMixer, RALAMixer, TokenMixer
from mmeffvit.models.backbones.conv_pyramid import ConvPyramid
from mmeffvit.models.official import PYRAMID_RULES, KeyRule
from mmeffvit.models.published.ravlt import WEIGHTS
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS

#: letter of a kind of attention, as the authors write it, -> mixer
_MIXERS = {"l": RALAMixer, "v": GatedSoftmaxMixer}


def _arch(embed_dims, depths, num_heads, layer_scale) -> dict[str, Any]:
    return {
        "embed_dims": embed_dims,
        "depths": depths,
        "num_heads": num_heads,
        "mlp_ratios": (3.5, 3.5, 3.5, 3.5),
        "attention": ("l", "l", "v", "v"),
        "layer_scale": layer_scale,
    }


@MODELS.register_module()
class RAVLT(ConvPyramid):
    """RAVLT, tiny to large (arXiv 2411.07635, variants T, S, B, L; the detectors call B "m").

    The keys of an arch dict are ``embed_dims``, ``depths``, ``num_heads``, ``mlp_ratios``,
    ``attention`` (four entries, each ``'l'``, linear, or ``'v'``, softmax, or a list with one of
    them per block) and ``layer_scale`` (four initial values or None).

    Stages of linear attention cost in proportion to the area, those of softmax attention to its
    square, in time but not in memory.

    Args:
        arch: 'tiny', 'small', 'base', 'large' or a dict.
        implementation: Of `mmeffvit.ops.rank_augmented_linear_attention` and
            `mmeffvit.ops.rotary_softmax_attention`; None lets them choose.
        **kwargs: Those of `BaseBackbone`.
    """

    family: ClassVar[str] = "ravlt"
    stage_keys: ClassVar[tuple[str, ...]] = (*ConvPyramid.stage_keys, "attention")
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": _arch((64, 128, 256, 512), (2, 2, 6, 2), (1, 2, 4, 8), (1, 1, 1, 1)),
        "small": _arch((64, 128, 320, 512), (3, 5, 9, 3), (1, 2, 5, 8), (1, 1, 1, 1)),
        "base": _arch((96, 192, 384, 512), (4, 6, 12, 6), (1, 2, 6, 8), (1, 1, 1e-6, 1e-6)),
        "large": _arch((96, 192, 448, 640), (4, 7, 19, 8), (1, 2, 7, 10), (1e-6,) * 4),
    }
    drop_path_rates: ClassVar[dict[str, float]] = {
        "tiny": 0.1,
        "small": 0.15,
        "base": 0.4,
        "large": 0.55,
    }
    weights: ClassVar[tuple[WeightsFile, ...]] = WEIGHTS
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        *PYRAMID_RULES,
        KeyRule(
            r"layers\.(\d+)\.blocks\.(\d+)\.attn\.qkvo\.(\w+)",
            r"backbone.stages.\1.blocks.\2.mixer.qkv.\3",
        ),
        KeyRule(
            r"layers\.(\d+)\.blocks\.(\d+)\.attn\.(lepe|proj)\.(\w+)",
            r"backbone.stages.\1.blocks.\2.mixer.\3.\4",
        ),
        # in the files of detectors and segmentors
        KeyRule(r"extra_norms\.(\d+)\.norm\.(\w+)", r"backbone.out_norms.\1.\2"),
    )

    def __init__(
        self, arch: str | dict[str, Any] = "tiny", implementation: str | None = None, **kwargs
    ):
        super().__init__(arch, block_options={"implementation": implementation}, **kwargs)

    def make_mixer(self, stage: int, index: int, **options: Any) -> TokenMixer:
        kind = self.per_block("attention", stage)[index]
        if kind not in _MIXERS:
            raise ValueError(
                f"arch['attention'][{stage}] has {kind!r}; kinds of attention are 'l' (linear) and "
                "'v' (softmax)"
            )
        return _MIXERS[kind](
            self.arch["embed_dims"][stage], self.arch["num_heads"][stage], **options
        )
