"""The contract of all backbones: arguments, outputs, freezing and errors they share."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmeffvit.models.official import KeyRule


class BaseBackbone(BaseModule):
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

    #: name of the family in `mmeffvit.list_backbones`, such as 'secvit'
    family: ClassVar[str] = ""
    #: variant name -> arch dict
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {}
    #: variant name -> the paper's stochastic-depth rate
    drop_path_rates: ClassVar[dict[str, float]] = {}
    #: keys that an arch dict must have
    arch_keys: ClassVar[tuple[str, ...]] = ()
    #: keys of the authors' checkpoints and ours; empty where none were published
    official_rules: ClassVar[tuple[KeyRule, ...]] = ()
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
        super().__init__(_own_pretrained(init_cfg))
        self.arch_name = arch if isinstance(arch, str) else None
        self.arch = self._resolve_arch(arch)
        self.in_channels = in_channels
        self.out_indices = self._check_out_indices(out_indices)
        self.out_norm = out_norm
        if drop_path_rate is None:
            drop_path_rate = self.drop_path_rates.get(self.arch_name, 0.0)
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f"drop_path_rate must be in [0, 1), got {drop_path_rate}")
        self.drop_path_rate = drop_path_rate
        if not -1 <= frozen_stages <= self.num_built_stages:
            raise ValueError(
                f"frozen_stages={frozen_stages} is not possible with out_indices="
                f"{self.out_indices}: -1 freezes nothing, 0 the stem, 1 to "
                f"{self.num_built_stages} the stem and so many stages"
            )
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp

    # -- arguments ---------------------------------------------------------------------------------

    @classmethod
    def _resolve_arch(cls, arch: str | Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(arch, str):
            if arch not in cls.arch_zoo:
                close = difflib.get_close_matches(arch, cls.arch_zoo, n=1)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                raise ValueError(
                    f"{cls.__name__} has no variant '{arch}'; it has {', '.join(cls.arch_zoo)}, or "
                    f"takes a dict with the keys {', '.join(cls.arch_keys)}{hint}"
                )
            return copy.deepcopy(cls.arch_zoo[arch])
        if not isinstance(arch, Mapping):
            raise TypeError(
                f"arch must be a name or a dict, got {type(arch).__name__}; names of "
                f"{cls.__name__}: {', '.join(cls.arch_zoo)}"
            )
        missing = [key for key in cls.arch_keys if key not in arch]
        unknown = [key for key in arch if key not in cls.arch_keys]
        if missing or unknown:
            raise ValueError(
                f"the arch dict of {cls.__name__} needs exactly the keys "
                f"{', '.join(cls.arch_keys)}; missing: {', '.join(missing) or 'none'}; "
                f"unknown: {', '.join(unknown) or 'none'}"
            )
        return copy.deepcopy(dict(arch))

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

    # -- freezing and checkpointing ----------------------------------------------------------------

    def frozen_modules(self) -> list[nn.Module]:
        """Modules that `frozen_stages` freezes; a sub-class lists them."""
        raise NotImplementedError

    def _finish(self) -> None:
        for module in self.frozen_modules():
            module.requires_grad_(False)

    def train(self, mode: bool = True):
        super().train(mode)
        if mode:
            for module in self.frozen_modules():
                module.eval()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def run_block(self, block: nn.Module, *args):
        """Call a block, recomputing it in the backward pass if `with_cp`."""
        if self.with_cp and self.training:
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)


def _own_pretrained(init_cfg: dict | list | None) -> dict | list | None:
    """Replace mmengine's ``Pretrained`` by ours, which is strict and reads safetensors."""
    if isinstance(init_cfg, list | tuple):
        return [_own_pretrained(cfg) for cfg in init_cfg]
    if isinstance(init_cfg, dict) and init_cfg.get("type") == "Pretrained":
        return {**init_cfg, "type": "mmeffvit.Pretrained"}
    return init_cfg
