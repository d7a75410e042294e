"""The contract of all backbones: arguments, outputs, freezing and errors they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.models.network import Network
from mmeffvit.ops.tracing import is_exporting

MapEdit = Callable[[Tensor, int, int], Tensor]
"""``(map, stage, place) -> map``: what a training method does to maps on their way. Place 0 is what
enters the first block of a stage, in stage 0 what the stem made; place i follows block i."""


def pad_sides(x: Tensor, divisor: int) -> Tensor:
    """Zeros on the right and at the bottom of a map, up to multiples of `divisor`.

    A map of such sides is returned as it is, but by a compiler, which must not look at the sides.
    """
    # not `-side % divisor`: where positions are resized, a compiler has no tensor of it
    bottom, right = ((n + divisor - 1) // divisor * divisor - n for n in x.shape[-2:])
    needed = torch.compiler.is_compiling() or bottom or right
    return F.pad(x, (0, right, 0, bottom)) if needed else x


class BaseBackbone(Network):
    """A backbone maps (B, C, H, W) to a tuple of (B, C_i, ceil(H/s_i), ceil(W/s_i)) maps.

    A sub-class sets `family` and `arch_zoo`, says by `stage_channels` and `stage_strides` which
    maps it can return, builds its modules in ``__init__`` after calling this one's, and ends it
    with :meth:`freeze`. `Pyramid` and `PlainViT` do most of this.

    Args:
        arch: Name of a variant in `arch_zoo`, or a dict with exactly the keys of `arch_keys`.
        out_indices: Maps that are returned, from 0; ascending. What none of them needs is not
            built. None takes the network's own choice, for a pyramid all stages.
        out_norm: Put the network's norm on each returned map, a LayerNorm over channels in most.
        drop_path_rate: Largest stochastic-depth rate, reached linearly at the last block of the
            whole network. None takes the paper's value for a named variant and 0 for a dict.
        frozen_stages: -1 freezes nothing, 0 the stem, i the stem and the first i stages, with their
            output norms; frozen batch norms keep their statistics.
        norm_eval: Keep the statistics of all batch norms (also synchronised ones) while training.
        with_cp: Recompute blocks in the backward pass to save memory (non-reentrant checkpointing).
        in_channels: Channels of the image.
        init_cfg: Of mmengine. ``dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')``
            reads .pth (weights only) and .safetensors, and fails when part of the network is not in
            the file.

    Raises:
        ValueError: The variant, the keys, `out_indices` or `frozen_stages` are not possible.
        TypeError: `arch` is neither a name nor a dict.

    Attributes:
        arch: The resolved dict.
        arch_name: The name that was given, or None.
        out_channels: Channels of each output, following `out_indices`.
        out_strides: Strides of each output, following `out_indices`.
    """

    #: multiple of which sides are padded inside, on the right and at the bottom; maps are cropped
    size_divisor: ClassVar[int] = 1
    #: smallest side of an image, in pixels
    min_size: ClassVar[int] = 32
    #: where `forward` lets an ``edit`` (`MapEdit`) change maps: 'stem', 'blocks' (there and after)
    map_edits: ClassVar[str | None] = None
    new_weights: ClassVar[dict[str, str]] = {
        "out_norms": "a new norm on an output, which starts as the identity affine"
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any],
        out_indices: Sequence[int] | int | None = None,
        out_norm: bool = True,
        drop_path_rate: float | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        in_channels: int = 3,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(arch, in_channels, drop_path_rate, norm_eval, with_cp, init_cfg)
        self.check_arch()
        if out_indices is None:
            out_indices = self.default_out_indices
        self.out_indices = self._check_out_indices(out_indices)
        self.out_norm = out_norm
        if not -1 <= frozen_stages <= self.num_built_stages:
            raise ValueError(
                f"frozen_stages={frozen_stages} is not possible with out_indices="
                f"{self.out_indices}: -1 freezes nothing, 0 the stem, 1 to "
                f"{self.num_built_stages} the stem and so many stages"
            )
        self.frozen_stages = frozen_stages

    # -- arguments ---------------------------------------------------------------------------------

    def check_arch(self) -> None:
        """Raise ValueError where the values of `arch` do not fit together."""

    def _check_out_indices(self, out_indices: Sequence[int] | int) -> tuple[int, ...]:
        indices = tuple(out_indices) if isinstance(out_indices, Sequence) else (out_indices,)
        allowed = range(self.num_stages)
        if (
            not indices
            or any(i not in allowed for i in indices)
            or list(indices) != sorted(set(indices))
        ):
            raise ValueError(
                f"out_indices must be ascending stages out of 0..{self.num_stages - 1}, each once, "
                f"got {out_indices}"
            )
        return indices

    # -- images ------------------------------------------------------------------------------------

    def check_input(self, x: Tensor) -> None:
        """Raise ValueError where `x` is no (B, C, H, W) image that the network takes."""
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} takes images of shape (B, {self.in_channels}, H, W), got "
                f"{tuple(x.shape)}"
            )
        if min(x.shape[-2:]) < self.min_size:
            raise ValueError(
                f"{type(self).__name__} takes images of at least {self.min_size} x {self.min_size} "
                f"pixels, got {x.shape[-2]} x {x.shape[-1]}; resize or pad them"
            )

    def pad_image(self, x: Tensor) -> Tensor:
        """Zeros on the right and at the bottom, up to multiples of `size_divisor`."""
        return pad_sides(x, self.size_divisor) if self.size_divisor > 1 else x

    def crop_map(self, x: Tensor, image: Tensor, index: int) -> Tensor:
        """The part of map `index` that belongs to the image as it was before :meth:`pad_image`."""
        if self.size_divisor == 1:
            return x
        stride = self.stage_strides[index]
        height, width = (math.ceil(side / stride) for side in image.shape[-2:])
        if is_exporting():
            # where nothing was padded, a slice would tell the graph that nothing ever is
            rows, columns = (torch.arange(n, device=x.device) for n in (height, width))
            return x.index_select(-2, rows).index_select(-1, columns)
        return x[..., :height, :width]

    # -- outputs -----------------------------------------------------------------------------------

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of every map that the network can return, built or not."""
        raise NotImplementedError

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Strides of these maps."""
        raise NotImplementedError

    @property
    def default_out_indices(self) -> tuple[int, ...]:
        return tuple(range(self.num_stages))

    @property
    def num_stages(self) -> int:
        return len(self.stage_strides)

    @property
    def num_built_stages(self) -> int:
        """Stages up to the last one that is returned."""
        return self.out_indices[-1] + 1

    @property
    def out_channels(self) -> tuple[int, ...]:
        return tuple(self.stage_channels[i] for i in self.out_indices)

    @property
    def out_strides(self) -> tuple[int, ...]:
        return tuple(self.stage_strides[i] for i in self.out_indices)

    # -- classifiers -------------------------------------------------------------------------------

    #: arguments with which the network is the backbone of its published classifier
    classifier_options: ClassVar[dict[str, Any]] = {"out_norm": False}

    def make_head(self, num_classes: int, **options: Any) -> nn.Module:
        """The head of the published classifiers: the outputs of this backbone to logits.

        Args:
            num_classes: Number of classes.
            **options: Sizes in which heads of a family differ.
        """
        raise ValueError(f"no classifiers of {type(self).__name__} were published")

    # -- depth -------------------------------------------------------------------------------------

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """How deep a parameter lies, for learning rates that decay from layer to layer.

        The convention is mmpretrain's: layer 0 is the stem, the last one what follows the last
        block.

        Args:
            param_name: Name of a parameter, of the backbone or of a model that holds it.
            prefix: Name of the backbone in that model, such as ``'backbone.'``. Parameters that do
                not start with it belong to the last layer.

        Returns:
            The layer, from 0, and the number of layers.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how deep its layers are")


def one_per_block(name: str, entry: Any, depth: int, unit: str = "block") -> list[Any]:
    """An entry of an arch dict: one value for all blocks, or a sequence of one per block.

    Args:
        name: What an error calls it.
        entry: The value or the sequence.
        depth: Number of blocks.
        unit: What an error calls a block, where the entries are of something else.
    """
    shared = isinstance(entry, (str, Mapping)) or not isinstance(entry, Sequence)
    values = [entry] * depth if shared else list(entry)
    if len(values) != depth:
        raise ValueError(
            f"{name} has {len(values)} entries for {depth} {unit}s; give one per {unit}, or a "
            "single one for all"
        )
    return values
