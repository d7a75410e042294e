"""The contract of all backbones: arguments, outputs, freezing and errors they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from mmeffvit.models.network import Network


class BaseBackbone(Network):
    """A backbone maps (B, 3, H, W) to a tuple of (B, C_i, ceil(H/s_i), ceil(W/s_i)) maps.

    A sub-class sets `family`, `arch_zoo` and `arch_keys`, builds its modules in ``__init__`` after
    calling this one's, and ends it with :meth:`_finish`.

    Args:
        arch: Name of a variant in `arch_zoo`, or a dict with exactly the keys of `arch_keys`.
        out_indices: Stages whose maps are returned, from 0; ascending. Stages after the last one
            are not built.
        out_norm: Put a LayerNorm over channels on each returned map.
        drop_path_rate: Largest stochastic-depth rate, reached linearly at the last block of the
            whole network. None takes the paper's value for a named variant and 0 for a dict.
        frozen_stages: -1 freezes nothing, 0 the stem, i the stem and the first i stages, with their
            output norms; frozen batch norms keep their statistics.
        norm_eval: Keep the statistics of all batch norms (also synchronised ones) while training.
        with_cp: Recompute blocks in the backward pass to save memory (non-reentrant checkpointing).
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

    #: strides of all stages
    stage_strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)
    #: smallest side of an image, in pixels
    min_size: ClassVar[int] = 32

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "tiny",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: bool = True,
        drop_path_rate: float | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        in_channels: int = 3,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(arch, in_channels, drop_path_rate, norm_eval, with_cp, init_cfg)
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

    @property
    def num_stages(self) -> int:
        return len(self.stage_strides)

    @property
    def num_built_stages(self) -> int:
        """Stages up to the last one that is returned."""
        return self.out_indices[-1] + 1

    def _check_out_indices(self, out_indices: Sequence[int]) -> tuple[int, ...]:
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

    def _check_input(self, x: Tensor) -> None:
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

    # -- outputs -----------------------------------------------------------------------------------

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of every stage of the network, built or not."""
        return tuple(self.arch["embed_dims"])

    @property
    def out_channels(self) -> tuple[int, ...]:
        return tuple(self.stage_channels[i] for i in self.out_indices)

    @property
    def out_strides(self) -> tuple[int, ...]:
        return tuple(self.stage_strides[i] for i in self.out_indices)

    @classmethod
    def variant_of_weights(cls, state_dict: Mapping[str, Tensor]) -> str | None:
        dims, depths = [], []
        stage = 0
        while f"backbone.stages.{stage}.blocks.0.norm1.weight" in state_dict:
            dims.append(state_dict[f"backbone.stages.{stage}.blocks.0.norm1.weight"].numel())
            block = 0
            while f"backbone.stages.{stage}.blocks.{block}.norm1.weight" in state_dict:
                block += 1
            depths.append(block)
            stage += 1
        for name, arch in cls.arch_zoo.items():
            if dims == list(arch["embed_dims"]) and depths == list(arch["depths"]):
                return name
        return None

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
