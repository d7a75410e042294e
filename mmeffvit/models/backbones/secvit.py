"""SecViT: semantic equitable clustering (arXiv 2405.13337).

The published classifiers equal this network with `out_norm=False` and `ConvClsHead` on its last
map. The paper's text available to us holds no detection code: the norm on each output is ours,
after the same authors' RMT and RAVLT.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmeffvit.layers import SECMixer
from mmeffvit.models.backbones.conv_pyramid import ConvPyramid
from mmeffvit.models.official import LEPE_ATTENTION_RULES, PYRAMID_RULES, KeyRule
from mmeffvit.models.published.shares import SECVIT
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS


def _arch(embed_dims, depths, num_heads, layer_scale) -> dict[str, Any]:
    return {
        "embed_dims": embed_dims,
        "depths": depths,
        "num_heads": num_heads,
        "mlp_ratios": (3, 3, 3, 3),
        "num_clusters": (32, 8, 2, -1),
        "layer_scale": layer_scale,
    }


@MODELS.register_module()
class SecViT(ConvPyramid):
    """SecViT, tiny to large (arXiv 2405.13337, variants T, S, B, L).

    The keys of an arch dict are ``embed_dims``, ``depths``, ``num_heads``, ``mlp_ratios``,
    ``num_clusters`` (four entries, each a number or a list with one per block; 1 or less is plain
    attention) and ``layer_scale`` (four initial values or None).

    The number of clusters is fixed by default, as published: attention costs grow with the square
    of the area. Maps whose size does not divide get clusters that differ by one token.

    Args:
        arch: 'tiny', 'small', 'base', 'large' or a dict.
        tokens_per_cluster: Let the number of clusters follow the size of the map, so that cost
            grows linearly with the area: 98 is what the published cluster counts give at 224 x 224.
            Not from the paper, and not what published weights were trained with at other sizes.
        implementation: Of `mmeffvit.ops.sec_attention`; None lets it choose.
        **kwargs: Those of `BaseBackbone`.
    """

    family: ClassVar[str] = "secvit"
    stage_keys: ClassVar[tuple[str, ...]] = (*ConvPyramid.stage_keys, "num_clusters")
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": _arch((64, 128, 256, 512), (2, 2, 9, 2), (2, 4, 8, 16), (None,) * 4),
        "small": _arch((64, 128, 256, 512), (3, 4, 18, 4), (2, 4, 8, 16), (None,) * 4),
        "base": _arch((80, 160, 320, 512), (4, 8, 26, 8), (5, 5, 10, 16), (None, None, 1e-6, 1e-6)),
        "large": _arch(
            (112, 224, 448, 640), (4, 8, 26, 8), (7, 7, 14, 20), (None, None, 1e-6, 1e-6)
        ),
    }
    drop_path_rates: ClassVar[dict[str, float]] = {
        "tiny": 0.1,
        "small": 0.15,
        "base": 0.4,
        "large": 0.5,
    }
    weights: ClassVar[tuple[WeightsFile, ...]] = SECVIT
    official_rules: ClassVar[tuple[KeyRule, ...]] = (*PYRAMID_RULES, *LEPE_ATTENTION_RULES)

    def __init__(
        self,
        arch: str | dict[str, Any] = "tiny",
        tokens_per_cluster: int | None = None,
        implementation: str | None = None,
        **kwargs,
    ):
        options = {"tokens_per_cluster": tokens_per_cluster, "implementation": implementation}
        super().__init__(arch, block_options=options, **kwargs)

    def make_mixer(self, stage: int, index: int, **options: Any) -> SECMixer:
        return SECMixer(
            self.arch["embed_dims"][stage],
            self.arch["num_heads"][stage],
            self.per_block("num_clusters", stage)[index],
            **options,
        )
