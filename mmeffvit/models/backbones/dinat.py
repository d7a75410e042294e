"""NAT and DiNAT: neighbourhood attention (arXiv 2204.07143), dilated (arXiv 2209.15001).

The authors' dense backbones equal these networks; their classifiers equal them with
`out_norm=False` and `NormClassifier` on the last map.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any, ClassVar

from torch import Tensor, nn

from mmeffvit.layers import MLP, Block, LayerNorm2d, NeighbourhoodMixer
from mmeffvit.layers.init import draw_linear_layers
from mmeffvit.layers.position_table import resize_table
from mmeffvit.models.backbones.neighbourhood_keys import TRANSFORMERS_RULES, neighbourhood_rules
from mmeffvit.models.backbones.pyramid import Pyramid
from mmeffvit.models.heads.classifiers import NormClassifier
from mmeffvit.models.official import KeyRule
from mmeffvit.models.published import dinat as published
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS

#: of a task, of each block of each stage, or of all blocks
Dilations = str | Sequence[Sequence[int]] | int

_norm = partial(LayerNorm2d, eps=1e-5)


def neighbourhood_arch(dim, depths, mlp_ratio, layer_scale=None, kernel_size=7) -> dict[str, Any]:
    dims = (dim, 2 * dim, 4 * dim, 8 * dim)
    return {
        "embed_dims": dims,
        "depths": depths,
        "num_heads": tuple(channels // 32 for channels in dims),
        "mlp_ratio": mlp_ratio,
        "kernel_size": kernel_size,
        "layer_scale": layer_scale,
    }


STAGE_3_AT_640 = (1, 2, 1, 3, 1, 4, 1, 5) * 2 + (1, 5)


class NeighbourhoodPyramid(Pyramid):
    """What NAT and DiNAT share: all but the dilations.

    The keys of an arch dict are ``embed_dims``, ``depths`` and ``num_heads``, four entries each,
    ``mlp_ratio``, ``kernel_size`` (odd) and ``layer_scale`` (initial value or None). Weights of
    another kernel are loaded with their relative biases resized.
    """

    stage_keys: ClassVar[tuple[str, ...]] = ("embed_dims", "depths", "num_heads")
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        *TRANSFORMERS_RULES,
        *neighbourhood_rules("levels"),
    )
    #: task -> dilations of the blocks of each stage, from the first again where there are more
    task_dilations: ClassVar[dict[str, tuple[tuple[int, ...], ...]]] = {}

    def make_stem(self, in_channels: int, dim: int) -> nn.Module:
        # nothing between the two convolutions
        proj = nn.Sequential(
            nn.Conv2d(in_channels, dim // 2, 3, stride=2, padding=1),
            nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1),
        )
        return nn.Sequential(OrderedDict(proj=proj, norm=_norm(dim)))

    def make_merge(self, in_dim: int, dim: int) -> nn.Module:
        reduction = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1, bias=False)
        return nn.Sequential(OrderedDict(reduction=reduction, norm=_norm(dim)))

    def make_block(
        self, stage: int, index: int, drop_path: float, dilations: Dilations = 1, **options: Any
    ) -> nn.Module:
        arch = self.arch
        dim, heads = arch["embed_dims"][stage], arch["num_heads"][stage]
        dilation = self.dilations_of(stage, dilations)[index]
        return Block(
            dim,
            NeighbourhoodMixer(dim, heads, arch["kernel_size"], dilation, **options),
            MLP(dim, int(arch["mlp_ratio"] * dim)),
            norm=_norm,
            drop_path=drop_path,
            layer_scale=arch["layer_scale"],
        )

    def dilations_of(self, stage: int, dilations: Dilations) -> Sequence[int]:
        """One dilation for each block of a stage; ValueError where there is none."""
        depths = self.arch["depths"]
        if isinstance(dilations, int):
            return (dilations,) * depths[stage]
        if isinstance(dilations, str):
            if dilations not in self.task_dilations:
                raise ValueError(
                    f"{type(self).__name__} knows the dilations of "
                    f"{', '.join(self.task_dilations)}, not of '{dilations}'; for another task "
                    "give one number per block of each stage"
                )
            return tuple(islice(cycle(self.task_dilations[dilations][stage]), depths[stage]))
        if [len(blocks) for blocks in dilations] != list(depths):
            raise ValueError(
                f"dilations must be one number for each of the {tuple(depths)} blocks of the "
                f"stages, got {dilations}"
            )
        return dilations[stage]

    def make_head(self, num_classes: int) -> nn.Module:
        return NormClassifier(self.out_channels[-1], num_classes)

    def adapt_weight(self, name: str, value: Tensor) -> Tensor | None:
        if not name.endswith(".rpb"):
            return None
        own = self.get_parameter(name)
        if value.dim() != 3 or len(value) != len(own):
            return None
        return resize_table(value[None], own.shape[1:])[0]

    def reset_parameters(self) -> None:
        draw_linear_layers(self)


@MODELS.register_module()
class NAT(NeighbourhoodPyramid):
    """NAT, mini to base (arXiv 2204.07143).

    Args:
        arch: 'mini', 'tiny', 'small', 'base' or a dict; see `NeighbourhoodPyramid`.
        implementation: Of `mmeffvit.ops.neighbourhood_attention`; None lets it choose.
        **kwargs: Those of `BaseBackbone`.
    """

    family: ClassVar[str] = "nat"
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "mini": neighbourhood_arch(64, (3, 4, 6, 5), 3),
        "tiny": neighbourhood_arch(64, (3, 4, 18, 5), 3),
        "small": neighbourhood_arch(96, (3, 4, 18, 5), 2, layer_scale=1e-5),
        "base": neighbourhood_arch(128, (3, 4, 18, 5), 2, layer_scale=1e-5),
    }
    weights: ClassVar[tuple[WeightsFile, ...]] = published.NAT
    # of the classifiers
    drop_path_rates: ClassVar[dict[str, float]] = {
        "mini": 0.2,
        "tiny": 0.2,
        "small": 0.3,
        "base": 0.5,
    }

    def __init__(
        self, arch: str | dict[str, Any] = "tiny", implementation: str | None = None, **kwargs
    ):
        super().__init__(arch, block_options={"implementation": implementation}, **kwargs)


@MODELS.register_module()
class DiNAT(NeighbourhoodPyramid):
    """DiNAT, mini to large (arXiv 2209.15001): NAT, every other block with a dilation.

    Dilations belong to the task, not to the weights. 'large-11x11' has a larger kernel, for images
    of 384 pixels with the dilations of 224.

    Args:
        arch: 'mini', 'tiny', 'small', 'base', 'large', 'large-11x11' or a dict; see
            `NeighbourhoodPyramid`.
        dilations: 'classification' (of 224 pixels), 'classification-384', 'detection',
            'segmentation' (of 512 pixels) or 'segmentation-640', the authors'; or one number for
            each block of each stage, or one for all.
        fit_dilation: See `mmeffvit.layers.NeighbourhoodMixer`.
        implementation: Of `mmeffvit.ops.neighbourhood_attention`; None lets it choose.
        **kwargs: Those of `BaseBackbone`.

    Raises:
        ValueError: No such task, or not one dilation for each block.
    """

    family: ClassVar[str] = "dinat"
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "mini": neighbourhood_arch(64, (3, 4, 6, 5), 3),
        "tiny": neighbourhood_arch(64, (3, 4, 18, 5), 3),
        "small": neighbourhood_arch(96, (3, 4, 18, 5), 2),
        "base": neighbourhood_arch(128, (3, 4, 18, 5), 2, layer_scale=1e-5),
        "large": neighbourhood_arch(192, (3, 4, 18, 5), 2),
        "large-11x11": neighbourhood_arch(192, (3, 4, 18, 5), 2, kernel_size=11),
    }
    weights: ClassVar[tuple[WeightsFile, ...]] = published.DINAT
    drop_path_rates: ClassVar[dict[str, float]] = {
        **NAT.drop_path_rates,
        "large": 0.35,
        "large-11x11": 0.35,
    }
    task_dilations: ClassVar[dict[str, tuple[tuple[int, ...], ...]]] = {
        "classification": ((1, 8), (1, 4), (1, 2), (1,)),
        "classification-384": ((1, 13), (1, 6), (1, 3), (1,)),
        "detection": ((1, 28), (1, 7, 1, 14), (1, 3, 1, 5, 1, 7), (1, 3)),
        "segmentation": ((1, 16), (1, 4, 1, 8), (1, 2, 1, 3, 1, 4), (1, 2)),
        "segmentation-640": ((1, 20), (1, 5, 1, 10), STAGE_3_AT_640, (1, 2)),
    }

    def __init__(
        self,
        arch: str | dict[str, Any] = "tiny",
        dilations: Dilations = "classification",
        fit_dilation: bool = False,
        implementation: str | None = None,
        **kwargs,
    ):
        options = {
            "dilations": dilations,
            "fit_dilation": fit_dilation,
            "implementation": implementation,
        }
        super().__init__(arch, block_options=options, **kwargs)
