"""How networks of one library are made, and what is to be known of them before that."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmeffvit.models.libraries.depth import layer_depths
from mmeffvit.models.meta import RememberedShapes, TablesOnCpu

#: of ImageNet's RGB images, in 0..255
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Statistics:
    """What weights expect of images: mean and standard deviation, in 0..255, and why.

    Attributes:
        mean: Of each channel.
        std: Of each channel.
        origin: Why these.
        rgb: Whether channels are red, green, blue, and not the other way round.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    origin: str = "RGB images of ImageNet, as nothing else is known of the weights"
    rgb: bool = True


@dataclass(frozen=True)
class Facts:
    """What was found out about a network.

    Attributes:
        channels: Of every map that it can return.
        strides: Of these.
        divisor: Sides of images must be multiples of it.
        size: Height and width of the only images that it takes; None if it takes others.
        indices: What the library calls these maps.
        names: Of all its weights, classifier and late stages included.
        depths: Layer of each parameter by its name, and the number of layers.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    divisor: int
    size: tuple[int, int] | None
    indices: tuple[int, ...]
    names: frozenset[str]
    depths: tuple[dict[str, int], int]

    @property
    def is_plain(self) -> bool:
        """Whether all maps have one stride, as those of a plain transformer."""
        return len(set(self.strides)) == 1 and len(self.strides) > 1


class Library(ABC):
    """A network of a library: how it is made, asked for maps, and given its published weights.

    It holds no module, so that networks can be copied and pickled with it.

    Args:
        name: As the library calls the network.
        in_channels: Channels of images.
        options: Arguments of the network.

    Attributes:
        out_norm: Put the network's last norm on each map of a plain transformer.
    """

    #: what is imported, and the extra of this package that installs it
    package: ClassVar[str]
    extra: ClassVar[str] = "backbones"
    #: whether what no map needs is no part of a network after `keep`
    removes_unused: ClassVar[bool] = True

    def __init__(self, name: str, in_channels: int, options: Mapping[str, Any]):
        self.name = name
        self.in_channels = in_channels
        self.options = dict(options)
        self.out_norm = False
        require(self.package, self.extra)
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raise ValueError if the library has no network of this name."""

    @abstractmethod
    def make(self) -> nn.Module:
        """The whole network with random weights."""

    @abstractmethod
    def keep(self, network: nn.Module, indices: Sequence[int]) -> None:
        """Remove what the maps `indices` do not need, as far as the library lets one."""

    @abstractmethod
    def maps(self, network: nn.Module, x: Tensor, indices: Sequence[int]) -> Sequence[Tensor]:
        """Maps (B, C, H, W) of an image whose sides fit."""

    @abstractmethod
    def all_indices(self, network: nn.Module) -> tuple[int, ...]:
        """Indices of all maps of a whole network."""

    @abstractmethod
    def weights(self) -> Mapping[str, Tensor]:
        """The published weights under the library's names; downloads them if need be."""

    @abstractmethod
    def has_weights(self) -> bool:
        """Whether there are published ones."""

    @abstractmethod
    def statistics(self) -> Statistics:
        """What the published weights expect of images."""

    def draw(self, network: nn.Module) -> None:  # noqa: B027
        """Draw random weights; nothing to do where networks have them when they are made."""

    def recompute(self, network: nn.Module) -> None:
        """Let blocks be recomputed in the backward pass."""
        raise ValueError(f"{self.package} has no checkpointing of blocks; leave with_cp out")

    def depths(self, network: nn.Module) -> tuple[dict[str, int], int]:
        """Layer of each parameter of a whole network, and the number of layers."""
        return layer_depths(network)

    def image_size(self, network: nn.Module) -> tuple[int, int]:
        """Height and width of the images that it was made for."""
        return 224, 224

    def takes_any_size(self, network: nn.Module) -> bool | None:
        """Whether it is known to take other sizes, or not; None if that is to be tried."""
        return None

    def levels(self, network: nn.Module) -> list[tuple[int, int]] | None:
        """Channels and strides of all maps where the library says them."""
        return None

    def find_facts(self) -> Facts:
        """Build the network without memory for weights, and look at the maps that it returns.

        Raises:
            ValueError: It cannot be built with the options, or returns something else than maps.
        """
        with torch.device("meta"), TablesOnCpu():
            network = self.make().to("meta")
        network.eval()  # which of some networks returns nothing
        size = self.image_size(network)
        indices = self.all_indices(network)
        levels = self.levels(network) or self._measured(network, size, indices)
        channels, strides = zip(*levels)
        coarsest = max(strides)
        if any(coarsest % stride for stride in strides):
            raise ValueError(
                f"{self.name} has maps of strides {strides}, which are no pyramid and no maps of "
                "one patch size; take another network"
            )

        def fits(height: int, width: int) -> bool:
            return self._fits(network, (height, width), indices, strides)

        divisor, fixed = coarsest, None
        if not self.takes_any_size(network) and not fits(4 * divisor, 6 * divisor):
            # windows of a fixed number fit multiples of the size that it was made for
            if size[0] == size[1] and fits(2 * size[0], size[0]):
                divisor = size[0]
            else:
                fixed = size
        names = frozenset(network.state_dict())
        return Facts(channels, strides, divisor, fixed, indices, names, self.depths(network))

    def _measured(
        self, network: nn.Module, size: tuple[int, int], indices: Sequence[int]
    ) -> list[tuple[int, int]]:
        try:
            maps = self._run(network, size, indices)
        except Exception as error:  # libraries raise whatever they like
            raise ValueError(
                f"{self.name} could not be run on an image of {size[0]} x {size[1]} pixels: {error}"
            ) from error
        if not all(isinstance(x, Tensor) and x.dim() == 4 for x in maps):
            raise ValueError(f"{self.name} returns no maps (B, C, H, W); it cannot be a backbone")
        return [(x.shape[1], round(size[0] / x.shape[2])) for x in maps]

    def _fits(
        self,
        network: nn.Module,
        size: tuple[int, int],
        indices: Sequence[int],
        strides: Sequence[int],
    ) -> bool:
        try:
            maps = self._run(network, size, indices)
        except Exception:  # as above
            return False
        found = [tuple(x.shape[2:]) for x in maps]
        return found == [(size[0] // stride, size[1] // stride) for stride in strides]

    def _run(
        self, network: nn.Module, size: tuple[int, int], indices: Sequence[int]
    ) -> Sequence[Tensor]:
        image = torch.empty(1, self.in_channels, *size, device="meta")
        with torch.no_grad(), torch.device("cpu"), RememberedShapes():
            return self.maps(network, image, indices)


def require(package: str, extra: str) -> None:
    """Import a package, or say how to install it.

    Raises:
        ImportError: It is not installed.
    """
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(
            f"{package} is not installed; pip install 'mmeffvit[{extra}]' brings it"
        ) from error
