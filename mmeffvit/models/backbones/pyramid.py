"""The loop of pyramids: a stem, then stages of blocks with a merge between them.

`Pyramid` knows no layer. Maps stay (B, C, H, W) with channels last in memory, so that norms over
channels and 1x1 convolutions need no copies.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from mmeffvit.layers import LayerNorm2d, MapContext
from mmeffvit.models.backbones.base import BaseBackbone, MapEdit, one_per_block
from mmeffvit.ops import map_layout


class PyramidStage(nn.Module):
    """Down-sampling, except in the first stage, the blocks, and what follows the last one."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module], norm: nn.Module):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm


class Pyramid(BaseBackbone):
    """Four stages of strides 4, 8, 16 and 32, whatever they are made of.

    A network says in its own file how its parts are made: :meth:`make_stem`, :meth:`make_merge` and
    :meth:`make_block` return modules and are called while the pyramid is built, when `arch` and the
    other common arguments are there; what else a block needs, a network hands on as
    `block_options`. An arch dict has at least ``embed_dims`` and ``depths``.

    Args:
        arch: Name of a variant in `arch_zoo`, or a dict with exactly the keys of `arch_keys`.
        block_options: Keyword arguments of :meth:`make_block`.
        **kwargs: Those of `BaseBackbone`.
    """

    #: keys of an arch dict with one entry per stage
    stage_keys: ClassVar[tuple[str, ...]] = ("embed_dims", "depths")
    #: eps of the norms on the outputs
    out_norm_eps: ClassVar[float] = 1e-5
    classifier_options: ClassVar[dict[str, Any]] = {"out_indices": (3,), "out_norm": False}
    map_edits: ClassVar[str | None] = "blocks"

    def __init__(
        self,
        arch: str | Mapping[str, Any],
        *args: Any,
        block_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(arch, *args, **kwargs)
        dims, depths = self.arch["embed_dims"], self.arch["depths"]
        last_block = max(sum(depths) - 1, 1)
        self.stem = self.make_stem(self.in_channels, dims[0])
        self.stages = nn.ModuleList()
        for stage in range(self.num_built_stages):
            merge = self.make_stage_merge(stage) if stage else nn.Identity()
            before = sum(depths[:stage])
            blocks = [
                self.make_block(
                    stage,
                    index,
                    self.drop_path_rate * (before + index) / last_block,
                    **(block_options or {}),
                )
                for index in range(depths[stage])
            ]
            self.stages.append(PyramidStage(merge, blocks, self.make_norm_after(stage)))
        self.out_norms = nn.ModuleDict(
            {str(i): self.make_out_norm(dims[i]) for i in self.out_indices if self.has_out_norm(i)}
        )
        self.reset_parameters()
        self.freeze()

    # -- parts of a network ------------------------------------------------------------------------

    def make_stem(self, in_channels: int, dim: int) -> nn.Module:
        """Images (B, C, H, W) to (B, dim, ceil(H/4), ceil(W/4)), `size_divisor` allowing."""
        raise NotImplementedError

    def make_stage_merge(self, stage: int) -> nn.Module:
        """What leads to a stage, from 1; for networks whose merges differ in more than channels."""
        return self.make_merge(*self.arch["embed_dims"][stage - 1 : stage + 1])

    def make_merge(self, in_dim: int, dim: int) -> nn.Module:
        """What halves a map between two stages, rounding up."""
        raise NotImplementedError

    def make_block(self, stage: int, index: int, drop_path: float, **options: Any) -> nn.Module:
        """A block: (B, C, H, W) and the context of the stage to (B, C, H, W).

        Args:
            stage: Stage from 0.
            index: Place in the stage from 0.
            drop_path: Its stochastic-depth rate.
            **options: What the network handed on.
        """
        raise NotImplementedError

    def make_stage_norm(self, dim: int) -> nn.Module:
        """What ends a stage, and is read by the next one as well; by default nothing."""
        return nn.Identity()

    def make_norm_after(self, stage: int) -> nn.Module:
        """What ends a stage; for networks where not all stages end alike."""
        return self.make_stage_norm(self.arch["embed_dims"][stage])

    def has_out_norm(self, stage: int) -> bool:
        """Whether a norm is put on the returned map of a stage."""
        return self.out_norm

    def make_out_norm(self, dim: int) -> nn.Module:
        return LayerNorm2d(dim, eps=self.out_norm_eps)

    def reset_parameters(self) -> None:
        """Draw initial values; modules come as PyTorch makes them."""

    def stage_arch(self, stage: int) -> dict[str, Any]:
        """The entries of `arch` for one stage, by the key that has one per stage."""
        return {key: self.arch[key][stage] for key in self.stage_keys}

    def per_block(self, key: str, stage: int) -> list[Any]:
        """An arch entry: one value for all blocks of a stage, or a sequence of one per block."""
        entry, depth = self.arch[key][stage], self.arch["depths"][stage]
        return one_per_block(f"arch['{key}'][{stage}]", entry, depth)

    # -- contract ----------------------------------------------------------------------------------

    def check_arch(self) -> None:
        stages = self.num_stages
        for key in self.stage_keys:
            value = self.arch[key]
            if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != stages:
                raise ValueError(
                    f"arch['{key}'] of {type(self).__name__} needs one entry for each of the "
                    f"{stages} stages, got {value}"
                )

    @property
    def stage_strides(self) -> tuple[int, ...]:
        return (4, 8, 16, 32)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        return tuple(self.arch["embed_dims"])

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """See `BaseBackbone`. Each block is a layer; down-sampling belongs to the block after it.

        The number of layers is that of the blocks that are built, and two: stem and what follows.
        """
        depths = self.arch["depths"][: self.num_built_stages]
        last = sum(depths) + 1
        layer = last
        name = param_name.removeprefix(prefix)
        if param_name.startswith(prefix + "stem."):
            layer = 0
        elif param_name.startswith(prefix + "stages."):
            _, stage, part, *rest = name.split(".")
            layer = sum(depths[: int(stage)]) + 1
            if part == "blocks":
                layer += int(rest[0])
            elif part == "norm":
                layer += depths[int(stage)] - 1
        return layer, last + 1

    def frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        frozen: list[nn.Module] = [self.stem, *self.stages[: self.frozen_stages]]
        return frozen + [n for i, n in self.out_norms.items() if int(i) < self.frozen_stages]

    def forward(self, image: Tensor, edit: MapEdit | None = None) -> tuple[Tensor, ...]:
        self.check_input(image)
        x = self.stem(map_layout(self.pad_image(image)))
        outs = []
        for i, stage in enumerate(self.stages):
            x = stage.downsample(x)
            x = edit(x, i, 0) if edit else x
            context = MapContext.of(x)
            for place, block in enumerate(stage.blocks, start=1):
                x = self.run_block(block, x, context)
                x = edit(x, i, place) if edit else x
            x = stage.norm(x)
            if i in self.out_indices:
                out = self.out_norms[str(i)](x) if self.has_out_norm(i) else x
                outs.append(self.crop_map(out, image, i))
        return tuple(outs)


def __getattr__(name: str):
    if name not in ("ConvPyramid", "PyramidViT"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmeffvit.models.backbones import conv_pyramid

    warnings.warn(f"import {name} from mmeffvit.models.backbones", DeprecationWarning, stacklevel=2)
    return getattr(conv_pyramid, name)
