"""PPMA: polyline path masked attention (arXiv 2506.15940).

The authors' dense backbones equal this network; their classifiers equal it with `out_norm=False`
and `ConvClassifier` on its last map. Around the mixers it is RMT.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmeffvit.layers import PolylineMixer
from mmeffvit.layers.init import draw_linear_layers
from mmeffvit.models.backbones.conv_pyramid import ConvPyramid
from mmeffvit.models.official import PYRAMID_RULES, RETENTION_RULES, KeyRule
from mmeffvit.models.published.ppma import WEIGHTS
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS


def _arch(embed_dims, depths, num_heads, mlp_ratios, decomposed, layer_scale) -> dict[str, Any]:
    return {
        "embed_dims": embed_dims,
        "depths": depths,
        "num_heads": num_heads,
        "mlp_ratios": mlp_ratios,
        "decomposed": decomposed,
        "layer_scale": layer_scale,
    }


_STEPS = r"layers\.(\d+)\.blocks\.(\d+)\.retention\.path_embed\."
_OURS = r"backbone.stages.\1.blocks.\2.mixer.steps."


@MODELS.register_module()
class PPMA(ConvPyramid):
    """PPMA, tiny to base (arXiv 2506.15940, variants T, S, B).

    The keys of an arch dict, four entries each, are ``embed_dims``, ``depths``, ``num_heads``,
    ``mlp_ratios``, ``decomposed`` (whether attention runs along rows and along columns) and
    ``layer_scale`` (initial values or None).

    Attention costs grow with the square of the area in stages that are not decomposed.

    Args:
        arch: 'tiny', 'small', 'base' or a dict.
        implementation: Of `mmeffvit.ops.polyline_attention`; None lets it choose.
        **kwargs: Those of `BaseBackbone`.
    """

    family: ClassVar[str] = "ppma"
    stage_keys: ClassVar[tuple[str, ...]] = (*ConvPyramid.stage_keys, "decomposed")
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": _arch(
            embed_dims=(64, 128, 256, 512),
            depths=(2, 2, 8, 2),
            num_heads=(4, 4, 8, 16),
            mlp_ratios=(3, 3, 3, 3),
            decomposed=(True, True, False, False),
            layer_scale=(None,) * 4,
        ),
        "small": _arch(
            embed_dims=(64, 128, 256, 512),
            depths=(3, 4, 18, 4),
            num_heads=(4, 4, 8, 16),
            mlp_ratios=(4, 4, 3, 3),
            decomposed=(True, True, True, False),
            layer_scale=(None,) * 4,
        ),
        "base": _arch(
            embed_dims=(80, 160, 320, 512),
            depths=(4, 8, 25, 8),
            num_heads=(5, 5, 10, 16),
            mlp_ratios=(4, 4, 3, 3),
            decomposed=(True, True, True, False),
            layer_scale=(None, None, 1e-6, 1e-6),
        ),
    }
    drop_path_rates: ClassVar[dict[str, float]] = {"tiny": 0.1, "small": 0.15, "base": 0.4}
    stem_widths: ClassVar[tuple[float, ...]] = (0.5, 0.5, 1, 1)
    stem_strides: ClassVar[tuple[int, ...]] = (2, 1, 2, 1)
    # the authors' norms on the outputs have PyTorch's default, unlike those in the blocks
    out_norm_eps: ClassVar[float] = 1e-5
    weights: ClassVar[tuple[WeightsFile, ...]] = WEIGHTS
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        KeyRule(rf"{_STEPS}dt_linear\.weight", rf"{_OURS}linear.weight"),
        KeyRule(rf"{_STEPS}dt_bias", rf"{_OURS}bias"),
        KeyRule(rf"{_STEPS}A_log", rf"{_OURS}log_rate"),
        *RETENTION_RULES,
        KeyRule(r"outnorm(\d)\.(\w+)", r"backbone.out_norms.\1.\2"),
        KeyRule(
            r"layers\.(\d+)\.Relpos\.angle",
            None,
            reason="a table that is computed from the head dimension",
        ),
        *PYRAMID_RULES,
    )

    def __init__(
        self, arch: str | dict[str, Any] = "tiny", implementation: str | None = None, **kwargs
    ):
        super().__init__(arch, block_options={"implementation": implementation}, **kwargs)

    def make_mixer(self, stage: int, index: int, **options: Any) -> PolylineMixer:
        arch = self.stage_arch(stage)
        return PolylineMixer(arch["embed_dims"], arch["num_heads"], arch["decomposed"], **options)

    def reset_parameters(self) -> None:
        """Draw linear layers alone; the mixers draw what steps are made of."""
        draw_linear_layers(self)
