"""What all networks share, of images and of points: variants, freezing, checkpointing."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmeffvit.errors import did_you_mean
from mmeffvit.models.official import KeyRule


class Network(BaseModule):
    """A network with named variants. `BaseBackbone` and `BasePointBackbone` say what goes in.

    Args:
        arch: Name of a variant in `arch_zoo`, or a dict with exactly the keys of `arch_keys`.
        in_channels: Channels of the input.
        drop_path_rate: Largest stochastic-depth rate. None takes the paper's value for a named
            variant and 0 for a dict.
        norm_eval: Keep the statistics of all batch norms (also synchronised ones) while training.
        with_cp: Recompute blocks in the backward pass to save memory (non-reentrant checkpointing).
        init_cfg: Of mmengine; ``Pretrained`` is ours, see `BaseBackbone`.

    Raises:
        ValueError: The variant, the keys or the rate are not possible.
        TypeError: `arch` is neither a name nor a dict.
    """

    #: name of the family in `mmeffvit.list_backbones`, such as 'secvit'
    family: ClassVar[str] = ""
    #: variant name -> arch dict
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {}
    #: variant name -> the paper's stochastic-depth rate
    drop_path_rates: ClassVar[dict[str, float]] = {}
    #: keys that an arch dict must have
    arch_keys: ClassVar[tuple[str, ...]] = ()
    #: where the network sits in a larger one; converted keys start with it
    prefix: ClassVar[str] = "backbone."
    #: the rules know the keys of whole detectors, not of the network alone
    converts_detectors: ClassVar[bool] = False
    #: keys of the authors' checkpoints and ours; empty where none were published
    official_rules: ClassVar[tuple[KeyRule, ...]] = ()

    def __init__(
        self,
        arch: str | Mapping[str, Any],
        in_channels: int,
        drop_path_rate: float | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(own_pretrained(init_cfg))
        self.arch_name = arch if isinstance(arch, str) else None
        self.arch = self._resolve_arch(arch)
        self.in_channels = in_channels
        if drop_path_rate is None:
            drop_path_rate = self.drop_path_rates.get(self.arch_name, 0.0)
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f"drop_path_rate must be in [0, 1), got {drop_path_rate}")
        self.drop_path_rate = drop_path_rate
        self.norm_eval = norm_eval
        self.with_cp = with_cp

    @classmethod
    def _resolve_arch(cls, arch: str | Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(arch, str):
            if arch not in cls.arch_zoo:
                hint = did_you_mean(arch, cls.arch_zoo)
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

    @classmethod
    def variant_of_weights(cls, state_dict: Mapping[str, Tensor]) -> str | None:
        """The published variant with these widths and depths, from weights under our keys."""
        raise NotImplementedError

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


def own_pretrained(init_cfg: dict | list | None) -> dict | list | None:
    """Replace mmengine's ``Pretrained`` by ours, which is strict and reads safetensors."""
    if isinstance(init_cfg, list | tuple):
        return [own_pretrained(cfg) for cfg in init_cfg]
    if isinstance(init_cfg, dict) and init_cfg.get("type") == "Pretrained":
        return {**init_cfg, "type": "mmeffvit.Pretrained"}
    return init_cfg
