"""SSViT: sparse scan self-attention (arXiv 2405.13335).

The published classifiers equal this network with `out_norm=False` and `ConvClsHead` on its last
map. The authors published no detection code: the norm on each output is ours, after the same
authors' RMT and RAVLT.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmeffvit.layers import S3AMixer
from mmeffvit.models.backbones.conv_pyramid import ConvPyramid
from mmeffvit.models.official import LEPE_ATTENTION_RULES, PYRAMID_RULES, KeyRule
from mmeffvit.models.published.shares import SSVIT
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS


def _arch(embed_dims, depths, num_heads, layer_scale) -> dict[str, Any]:
    return {
        "embed_dims": embed_dims,
        "depths": depths,
        "num_heads": num_heads,
        "mlp_ratios": (4, 4, 3, 3),
        "window_sizes": (7, 7, 7, 7),
        "reverse": ((False, True),) * 4,
        "layer_scale": layer_scale,
    }


@MODELS.register_module()
class SSViT(ConvPyramid):
    """SSViT, tiny to large (arXiv 2405.13335, variants T, S, B, L).

    The keys of an arch dict are ``embed_dims``, ``depths``, ``num_heads``, ``mlp_ratios``,
    ``window_sizes`` (four entries, each a number or a list with one per block), ``reverse`` (four
    entries, each a sequence that the blocks of the stage repeat: ``(False, True)`` alternates) and
    ``layer_scale`` (four initial values or None).

    Kernels follow the size of the map, as published, so that attention costs grow with the square
    of the area. Where a map is smaller than the window, which the published code refuses, kernels
    are the largest that fit.

    Args:
        arch: 'tiny', 'small', 'base', 'large' or a dict.
        max_kernel: Odd limit for the kernels, such as 13: attention costs then grow linearly with
            the area of large maps. Not from the paper, and not what published weights were trained
            with.
        per_axis: Take the kernels of each axis from its own length instead of the shorter side.
            Not from the paper.
        implementation: Of `mmeffvit.ops.neighbourhood_attention`; None lets it choose.
        **kwargs: Those of `BaseBackbone`.
    """

    family: ClassVar[str] = "ssvit"
    stage_keys: ClassVar[tuple[str, ...]] = (
        *ConvPyramid.stage_keys,
        "window_sizes",
        "reverse",
    )
    stem_widths: ClassVar[tuple[float, ...]] = (0.5, 0.5, 1, 1)
    stem_strides: ClassVar[tuple[int, ...]] = (2, 1, 2, 1)
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": _arch((64, 128, 256, 512), (2, 2, 9, 2), (2, 4, 8, 16), (None,) * 4),
        "small": _arch((64, 128, 256, 512), (3, 5, 18, 4), (2, 4, 8, 16), (None,) * 4),
        "base": _arch((80, 160, 320, 512), (4, 9, 25, 9), (5, 5, 10, 16), (None, None, 1e-6, 1e-6)),
        "large": _arch(
            (112, 224, 448, 640), (4, 9, 25, 9), (7, 7, 14, 20), (None, None, 1e-6, 1e-6)
        ),
    }
    drop_path_rates: ClassVar[dict[str, float]] = {
        "tiny": 0.1,
        "small": 0.15,
        "base": 0.4,
        "large": 0.5,
    }
    weights: ClassVar[tuple[WeightsFile, ...]] = SSVIT
    official_rules: ClassVar[tuple[KeyRule, ...]] = (*PYRAMID_RULES, *LEPE_ATTENTION_RULES)

    def __init__(
        self,
        arch: str | dict[str, Any] = "tiny",
        max_kernel: int | None = None,
        per_axis: bool = False,
        implementation: str | None = None,
        **kwargs,
    ):
        options = {
            "max_kernel": max_kernel,
            "per_axis": per_axis,
            "implementation": implementation,
        }
        super().__init__(arch, block_options=options, **kwargs)

    def make_mixer(self, stage: int, index: int, **options: Any) -> S3AMixer:
        reverse = self.arch["reverse"][stage]
        if isinstance(reverse, bool) or not reverse:
            raise ValueError(
                f"arch['reverse'][{stage}] must be a sequence that the blocks repeat, such as "
                f"(False, True), got {reverse!r}"
            )
        return S3AMixer(
            self.arch["embed_dims"][stage],
            self.arch["num_heads"][stage],
            self.per_block("window_sizes", stage)[index],
            reverse[index % len(reverse)],
            **options,
        )
