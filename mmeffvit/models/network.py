"""What all networks share, of images and of points: variants, freezing, checkpointing."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmeffvit.configs import full_type
from mmeffvit.errors import did_you_mean
from mmeffvit.layers.mixers.base import Mixer
from mmeffvit.models.official import KeyRule
from mmeffvit.models.weights import WeightsFile

#: why the counters of batch norms may be missing in a checkpoint
COUNTER = "a counter that nothing reads"
#: parts that training methods add to a network -> what they are; see `mmeffvit.models.methods`
METHOD_PARTS = {
    "feedback": "a convolution of a recursive feature pyramid's feedback",
    "mask_token": "the token of masked patches, of pre-training",
    "projections": "a convolution before a decoder, of pre-training",
}


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
    #: keys that an arch dict must have; by default those of the first variant
    arch_keys: ClassVar[tuple[str, ...]] = ()
    #: where the network sits in a larger one; converted keys start with it
    prefix: ClassVar[str] = "backbone."
    #: keys of the authors' checkpoints and ours; empty where none were published
    official_rules: ClassVar[tuple[KeyRule, ...]] = ()
    #: what is published of its variants; classes that derive from it do not take it over
    weights: ClassVar[tuple[WeightsFile, ...]] = ()
    #: first parts of names -> why such weights may be missing in a checkpoint
    new_weights: ClassVar[dict[str, str]] = {}
    #: arguments with which a network has all the weights that a checkpoint of it may hold
    whole_options: ClassVar[dict[str, Any]] = {}
    #: first parts of names that larger models put beside the network, in files without a prefix
    neighbours: ClassVar[tuple[str, ...]] = ("head", "decode_head")

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "arch_keys" not in vars(cls) and vars(cls).get("arch_zoo"):
            cls.arch_keys = tuple(next(iter(cls.arch_zoo.values())))

    def __new__(cls, *args: Any, **kwargs: Any) -> Network:
        """Say what to write in place of ``pretrained=``, which many networks elsewhere take."""
        if "pretrained" in kwargs:
            raise TypeError(
                f"{cls.__name__} takes no pretrained={kwargs['pretrained']!r}: weights are a file, "
                "or a name of mmeffvit.list_weights(). In a config write init_cfg=dict("
                "type='Pretrained', checkpoint='mmeffvit://NAME'), or checkpoint=FILE, "
                f"prefix='{cls.prefix}', and pretrained=None "
                "in a model of mmseg; in Python, mmeffvit.checkpoint.start_from(network, FILE). "
                "tools/convert_checkpoint.py makes FILE of the authors' weights."
            )
        return super().__new__(cls)

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

    # -- weights -----------------------------------------------------------------------------------

    @classmethod
    def variant_of_weights(cls, state_dict: Mapping[str, Tensor]) -> str | None:
        """The published variant whose parameters have these names and shapes.

        A file that lacks a few of them (5 % at most) still is that variant's; loading it names what
        is missing. One that lacks more than a fifth, even of what may be missing, is of none: the
        weights of a plain ViT are not those of a network around it. Where tables have the size of
        one variant and could be resized for another, it is the one whose size they have.

        Args:
            state_dict: Weights under our keys, which start with `prefix`.
        """
        found = {
            key.removeprefix(cls.prefix): value
            for key, value in state_dict.items()
            if key.startswith(cls.prefix)
        }
        lacking: dict[str, tuple[int, int]] = {}
        for variant in cls.arch_zoo:
            whole, own = _whole_network(cls, variant)
            if found.keys() <= own.keys() and all(
                whole.fitted(key, value, own[key]) is not None for key, value in found.items()
            ):
                missing = sum(whole.may_be_missing(key) is None for key in own.keys() - found)
                counters = sum(key.endswith("num_batches_tracked") for key in own.keys() - found)
                if missing <= 0.05 * len(own) and len(found) + counters >= 0.8 * len(own):
                    resized = sum(value.shape != own[key].shape for key, value in found.items())
                    lacking[variant] = missing, resized
        return min(lacking, key=lacking.__getitem__, default=None)

    def adapt_weight(self, name: str, value: Tensor) -> Tensor | None:
        """A weight of another shape, made to fit the parameter `name`; None if it cannot be.

        A network whose tables depend on a size (of an image, a window) resizes them here: those of
        layers that say how, as `PositionTable` does by ``fitted``; others in a class of its own. It
        is asked when weights are loaded, and when a variant is recognised.
        """
        owner, _, own_name = name.rpartition(".")
        if not owner or own_name != "table":
            return None
        layer = self.get_submodule(owner)
        return layer.fitted(value) if hasattr(layer, "fitted") else None

    def fitted(self, name: str, value: Tensor, own: Tensor) -> Tensor | None:
        """`value` itself if it has the shape of `own`, else what :meth:`adapt_weight` makes."""
        return value if value.shape == own.shape else self.adapt_weight(name, value)

    def may_be_missing(self, name: str) -> str | None:
        """Why a checkpoint need not have this weight of the network; None if it must."""
        if name.endswith("num_batches_tracked"):
            return COUNTER
        return self.new_weights.get(name.partition(".")[0])

    @cached_property
    def _whole_names(self) -> frozenset[str]:
        """Names of the weights that this network has with all its outputs."""
        with torch.device("meta"):
            return frozenset(type(self)(self.arch, **self.whole_options).state_dict())

    def may_be_ignored(self, name: str) -> str | None:
        """Why this weight of a checkpoint need not have a place in the network; None if it must."""
        part = name.partition(".")[0]
        if part in self.neighbours:
            return "the classifier"
        if part in METHOD_PARTS:
            return METHOD_PARTS[part]
        if name in self._whole_names:
            return "a part that no output needs, such as a stage after the last output"
        return None

    def frozen_modules(self) -> list[nn.Module]:
        """Modules that `frozen_stages` freezes; a sub-class lists them."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Stop the gradients of what `frozen_stages` says; the end of a constructor."""
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

    def lora_targets(self) -> list[str]:
        """Names of the layers to which low-rank adapters are added, if nothing else is asked for.

        They are the projections of token mixers: linear layers and 1x1 convolutions in them that
        read the mixer's channels.
        """
        return [
            f"{name}.{inner}"
            for name, mixer in self.named_modules()
            if isinstance(mixer, Mixer) and self.may_be_missing(name) is None
            for inner, module in mixer.named_modules()
            if isinstance(module, (nn.Linear, nn.Conv2d))
            and module.weight.shape[1] == mixer.embed_dims
        ]

    def run_block(self, block: nn.Module, *args):
        """Call a block, recomputing it in the backward pass if `with_cp`."""
        if self.with_cp and self.training:
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)


def input_channels(model: nn.Module) -> int:
    """Channels of the images that a backbone, or a model around one, takes.

    Of networks of others the first convolution says so; 3 if there is none.
    """
    network = getattr(model, "backbone", model)
    if isinstance(network, Network):
        return network.in_channels
    convs = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    return next((conv.in_channels for conv in convs), 3)


@lru_cache(maxsize=64)
def _whole_network(cls: type[Network], variant: str) -> tuple[Network, dict[str, Tensor]]:
    """The variant with all its outputs and its state, without memory for weights."""
    with torch.device("meta"):
        network = cls(variant, **cls.whole_options)
    return network, network.state_dict()


def own_pretrained(init_cfg: dict | list | None) -> dict | list | None:
    """Replace mmengine's ``Pretrained`` by ours, which is strict and reads safetensors."""
    if isinstance(init_cfg, list | tuple):
        return [own_pretrained(cfg) for cfg in init_cfg]
    if full_type(init_cfg) in ("Pretrained", "mmengine.Pretrained"):
        return {**init_cfg, "type": "mmeffvit.Pretrained"}
    return init_cfg
