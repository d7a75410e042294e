"""RMT: Manhattan self-attention (arXiv 2309.11523).

The authors' dense backbones equal this network; their classifiers equal it with `out_norm=False`
and `ConvClsHead` on its last map.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmeffvit.layers import MaSAMixer
from mmeffvit.layers.init import draw_linear_layers
from mmeffvit.models.backbones.conv_pyramid import ConvPyramid
from mmeffvit.models.official import PYRAMID_RULES, RETENTION_RULES, KeyRule
from mmeffvit.models.published.rmt import WEIGHTS
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS


def _arch(
    embed_dims, depths, num_heads, mlp_ratios, decay_ranges, decomposed, layer_scale
) -> dict[str, Any]:
    return {
        "embed_dims": embed_dims,
        "depths": depths,
        "num_heads": num_heads,
        "mlp_ratios": mlp_ratios,
        "decay_inits": (2, 2, 2, 2),
        "decay_ranges": decay_ranges,
        "decomposed": decomposed,
        "layer_scale": layer_scale,
    }


@MODELS.register_module()
class RMT(ConvPyramid):
    """RMT, tiny to large (arXiv 2309.11523, variants T, S, B, L).

    The keys of an arch dict, four entries each, are ``embed_dims``, ``depths``, ``num_heads``,
    ``mlp_ratios``, ``decay_inits`` and ``decay_ranges`` (exponents of the decay, see
    `mmeffvit.ops.decay_rates`), ``decomposed`` (whether attention runs along rows, then columns)
    and ``layer_scale`` (initial values or None).

    Attention costs grow with the square of the area in stages that are not decomposed.

    Args:
        arch: 'tiny', 'small', 'base', 'large' or a dict.
        implementation: Of `mmeffvit.ops.manhattan_attention`; None lets it choose.
        **kwargs: Those of `BaseBackbone`.
    """

    family: ClassVar[str] = "rmt"
    stage_keys: ClassVar[tuple[str, ...]] = (
        *ConvPyramid.stage_keys,
        "decay_inits",
        "decay_ranges",
        "decomposed",
    )
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": _arch(
            embed_dims=(64, 128, 256, 512),
            depths=(2, 2, 8, 2),
            num_heads=(4, 4, 8, 16),
            mlp_ratios=(3, 3, 3, 3),
            decay_ranges=(4, 4, 6, 6),
            decomposed=(True, True, False, False),
            layer_scale=(None,) * 4,
        ),
        "small": _arch(
            embed_dims=(64, 128, 256, 512),
            depths=(3, 4, 18, 4),
            num_heads=(4, 4, 8, 16),
            mlp_ratios=(4, 4, 3, 3),
            decay_ranges=(4, 4, 6, 6),
            decomposed=(True, True, True, False),
            layer_scale=(None,) * 4,
        ),
        "base": _arch(
            embed_dims=(80, 160, 320, 512),
            depths=(4, 8, 25, 8),
            num_heads=(5, 5, 10, 16),
            mlp_ratios=(4, 4, 3, 3),
            decay_ranges=(5, 5, 6, 6),
            decomposed=(True, True, True, False),
            layer_scale=(None, None, 1e-6, 1e-6),
        ),
        "large": _arch(
            embed_dims=(112, 224, 448, 640),
            depths=(4, 8, 25, 8),
            num_heads=(7, 7, 14, 20),
            mlp_ratios=(4, 4, 3, 3),
            decay_ranges=(6, 6, 6, 6),
            decomposed=(True, True, True, False),
            layer_scale=(None, None, 1e-6, 1e-6),
        ),
    }
    drop_path_rates: ClassVar[dict[str, float]] = {
        "tiny": 0.1,
        "small": 0.15,
        "base": 0.4,
        "large": 0.5,
    }
    stem_widths: ClassVar[tuple[float, ...]] = (0.5, 0.5, 1, 1)
    stem_strides: ClassVar[tuple[int, ...]] = (2, 1, 2, 1)
    # the authors' norms on the outputs have PyTorch's default, unlike those in the blocks
    out_norm_eps: ClassVar[float] = 1e-5
    weights: ClassVar[tuple[WeightsFile, ...]] = WEIGHTS
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        *RETENTION_RULES,
        KeyRule(r"extra_norms\.(\d+)\.(\w+)", r"backbone.out_norms.\1.\2"),
        KeyRule(
            r"layers\.(\d+)\.Relpos\.(angle|decay)",
            None,
            reason="a table that is computed from the head dimension and the number of heads",
        ),
        KeyRule(
            r"aux_head\.(\w+)",
            None,
            reason="the token-label head, which the classifier here does without",
        ),
        *PYRAMID_RULES,
    )

    def __init__(
        self,
        arch: str | dict[str, Any] = "tiny",
        implementation: str | None = None,
        **kwargs,
    ):
        super().__init__(arch, block_options={"implementation": implementation}, **kwargs)

    def make_mixer(self, stage: int, index: int, **options: Any) -> MaSAMixer:
        arch = self.stage_arch(stage)
        return MaSAMixer(
            arch["embed_dims"],
            arch["num_heads"],
            arch["decay_inits"],
            arch["decay_ranges"],
            arch["decomposed"],
            **options,
        )

    def reset_parameters(self) -> None:
        """Draw linear layers alone; the other networks of the family draw all convolutions."""
        draw_linear_layers(self)
