"""Plain transformers of mmpretrain and mmseg, whose own classes return tokens or one stride."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import ClassVar

from mmengine.registry import MODELS
from torch import Tensor, nn

from mmeffvit.errors import did_you_mean
from mmeffvit.models.libraries.base import Facts, Library, Statistics

#: what the norm after the last block is called
_NORMS = ("ln1", "norm1")


class _ToolboxNetwork(Library):
    """A class of a toolbox with blocks of one width (``'VisionTransformer'``).

    Its options are the arguments of the class; it is told to return maps, and the norm after the
    last block, if there is one, can be put on each of them.
    """

    #: some classes have norms that their blocks never call
    removes_unused: ClassVar[bool] = False

    def check(self) -> None:
        if self._class() is None:
            known = MODELS.children[self.package].module_dict
            raise ValueError(
                f"{self.package} has no backbone '{self.name}'{did_you_mean(self.name, known)}"
            )

    def _class(self) -> type | None:
        return MODELS.get(f"{self.package}.{self.name}")

    def make(self) -> nn.Module:
        parameters = {
            name
            for base in self._class().__mro__
            for name in inspect.signature(base.__init__).parameters
        }
        base = {"in_channels": self.in_channels}
        if "out_type" in parameters:
            base["out_type"] = "featmap"
        try:
            kind = f"{self.package}.{self.name}"
            network = MODELS.build({"type": kind, **base, **self.options})
        except Exception as error:  # constructors of the toolboxes raise whatever they like
            raise ValueError(
                f"the options of {self.package}'s {self.name} are not possible: {error}"
            ) from error
        network.out_indices = list(self.all_indices(network))
        return network

    def all_indices(self, network: nn.Module) -> tuple[int, ...]:
        """One for each block."""
        layers = getattr(network, "layers", None)
        if not isinstance(layers, nn.ModuleList) or len({type(layer) for layer in layers}) != 1:
            raise ValueError(
                f"{self.package}'s {self.name} is no plain transformer, a list of blocks of one "
                f"width; as a pyramid its name is '{self.package}.{self.name}'"
            )
        return tuple(range(len(layers)))

    def find_facts(self) -> Facts:
        facts = super().find_facts()
        if not facts.is_plain or len(set(facts.channels)) > 1:
            raise ValueError(
                f"{self.package}'s {self.name} has maps of channels {facts.channels} and strides "
                f"{facts.strides}, where a plain transformer has one of each"
            )
        return facts

    def keep(self, network: nn.Module, indices: Sequence[int]) -> None:
        network.layers = network.layers[: indices[-1] + 1]
        network.out_indices = list(indices)
        # here it is put on every map, or on none
        network.final_norm = False
        if not self.out_norm and (name := _norm_name(network)):
            setattr(network, name, nn.Identity())

    def maps(self, network: nn.Module, x: Tensor, indices: Sequence[int]) -> Sequence[Tensor]:
        outs = network(x)
        name = _norm_name(network) if self.out_norm else None
        if name is None:
            return outs
        norm = getattr(network, name)
        return [norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for y in outs]

    def draw(self, network: nn.Module) -> None:
        network.init_weights()

    def recompute(self, network: nn.Module) -> None:
        if not all(hasattr(layer, "with_cp") for layer in network.layers):
            super().recompute(network)
        for layer in network.layers:
            layer.with_cp = True

    def image_size(self, network: nn.Module) -> tuple[int, int]:
        size = getattr(network, "img_size", 224)
        return (size, size) if isinstance(size, int) else tuple(size)

    def has_weights(self) -> bool:
        return False

    def weights(self) -> Mapping[str, Tensor]:
        raise ValueError(
            f"which of the files of {self.package} belong to these options is not known; name one "
            "by init_cfg=dict(type='Pretrained', checkpoint=FILE)"
        )

    def statistics(self) -> Statistics:
        return Statistics(
            origin="RGB images of ImageNet, as most weights of the toolboxes expect them; those of "
            "the ViT paper expect mean and std 127.5"
        )


class MMPretrainNetwork(_ToolboxNetwork):
    """``'mmpretrain/VisionTransformer'``."""

    package: ClassVar[str] = "mmpretrain"
    extra: ClassVar[str] = "onedl"


class MMSegNetwork(_ToolboxNetwork):
    """``'mmseg/VisionTransformer'``."""

    package: ClassVar[str] = "mmseg"
    extra: ClassVar[str] = "onedl"


def _norm_name(network: nn.Module) -> str | None:
    return next((name for name in _NORMS if name in dict(network.named_children())), None)
