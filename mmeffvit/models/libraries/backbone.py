"""A network of timm, torchvision or Hugging Face transformers, as a backbone of this package."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule, initialize
from torch import Tensor

from mmeffvit.models.libraries.base import Statistics
from mmeffvit.models.libraries.images import check_image, pad_image, resize_image
from mmeffvit.models.libraries.names import find_facts, make_library, make_network
from mmeffvit.models.libraries.published import inner, load_published, may_be_missing
from mmeffvit.models.libraries.unused import unused_parameters
from mmeffvit.models.network import own_pretrained
from mmeffvit.registry import MODELS

#: no map of a finer stride is returned unless it is asked for
_FINEST = 4


@MODELS.register_module()
class LibraryBackbone(BaseModule):
    """A network of another library under the contract of `BaseBackbone`.

    Images of any size from `min_size` on: they are padded inside, on the right and at the bottom,
    to what the network needs, and maps are cropped. Class and other extra tokens are left out. What
    no map needs is removed where the library allows it, else not trained.

    Args:
        name: ``'timm/convnextv2_tiny.fcmae_ft_in22k_in1k'``, ``'torchvision/resnet50'``,
            ``'hf/facebook/dinov2-small'`` (of which ``config.json`` is read from the hub),
            ``'hf/path/to/folder'`` that holds one, ``'hf/dinov2'``, a type of model whose config is
            made of the options, or ``'mmpretrain/VisionTransformer'`` and other plain transformers
            of mmpretrain and mmseg.
        pretrained: Load the library's weights of this name in `init_weights`; they are downloaded
            then, if the library's cache does not have them.
        out_indices: Maps that are returned, ascending, in the library's order (for Hugging Face
            without the stem). None takes the last map of each stride from 4 on, of a plain
            transformer the last map alone.
        out_norm: Put the last norm of a plain transformer on each of its maps.
        out_stride: Of a plain transformer: images are resized inside so that maps have this stride,
            such as 16 for patches of 14. None keeps the patch size.
        frozen: No parameter is trained, the network stays in evaluation mode, and no graph is kept
            for a backward pass.
        with_cp: Recompute blocks in the backward pass, in libraries that can.
        in_channels: Channels of the image.
        init_cfg: Of mmengine; ``Pretrained`` reads files under the library's names or ours.
        **options: Arguments of the library's network: ``drop_path_rate``, ``img_size`` ...

    Raises:
        ValueError: There is no such network, or it cannot be a backbone with these options.
        ImportError: The library is not installed.

    Attributes:
        network: The library's own module.
        out_channels: Channels of each output.
        out_strides: Strides of each output.
        stage_channels: Channels of every map that the network can return.
        stage_strides: Strides of these.
    """

    #: smallest side of an image, in pixels
    min_size = 32

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        out_indices: Sequence[int] | int | None = None,
        out_norm: bool = True,
        out_stride: int | None = None,
        frozen: bool = False,
        with_cp: bool = False,
        in_channels: int = 3,
        init_cfg: dict | list | None = None,
        **options: Any,
    ):
        super().__init__(own_pretrained(init_cfg))
        self.name = name
        self.pretrained = pretrained
        self.in_channels = in_channels
        self.frozen = frozen
        self.library = make_library(name, in_channels, options)
        self.facts = find_facts(self.library)
        self.library.out_norm = out_norm and self.facts.is_plain
        self.out_indices = self._check_out_indices(out_indices)
        self.out_stride = self._check_out_stride(out_stride)
        self.network = make_network(self.library)
        self._taken = tuple(self.facts.indices[i] for i in self.out_indices)
        self.library.keep(self.network, self._taken)
        if frozen:
            self.network.requires_grad_(False)
        elif not self.library.removes_unused:
            for parameter in unused_parameters(self.network, self.library, self.facts, self._taken):
                parameter.requires_grad_(False)
        if with_cp:
            self.library.recompute(self.network)

    # -- arguments ---------------------------------------------------------------------------------

    def _check_out_indices(self, out_indices: Sequence[int] | int | None) -> tuple[int, ...]:
        count = len(self.facts.strides)
        if out_indices is None:
            if self.facts.is_plain:
                return (count - 1,)
            last = {stride: i for i, stride in enumerate(self.facts.strides) if stride >= _FINEST}
            return tuple(sorted(last.values()))
        indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
        if not indices or list(indices) != sorted(set(indices) & set(range(count))):
            raise ValueError(
                f"out_indices must be ascending maps of {self.name} out of 0..{count - 1}, each "
                f"once, got {out_indices}; their strides are {self.facts.strides}"
            )
        return indices

    def _check_out_stride(self, out_stride: int | None) -> int | None:
        patch = self.facts.strides[0]
        if out_stride is None or (self.facts.is_plain and out_stride == patch):
            return None
        if not self.facts.is_plain or out_stride < 1:
            raise ValueError(
                f"out_stride={out_stride} is for plain transformers, whose maps all have one "
                f"stride; those of {self.name} have {self.facts.strides}"
            )
        return out_stride

    # -- contract ----------------------------------------------------------------------------------

    @property
    def stage_channels(self) -> tuple[int, ...]:
        return self.facts.channels

    @property
    def stage_strides(self) -> tuple[int, ...]:
        if self.out_stride is not None:
            return (self.out_stride,) * len(self.facts.strides)
        return self.facts.strides

    @property
    def out_channels(self) -> tuple[int, ...]:
        return tuple(self.stage_channels[i] for i in self.out_indices)

    @property
    def out_strides(self) -> tuple[int, ...]:
        return tuple(self.stage_strides[i] for i in self.out_indices)

    def statistics(self) -> Statistics:
        """Mean and standard deviation of images that the published weights expect."""
        return self.library.statistics()

    def blocks(self) -> Sequence[torch.nn.Module]:
        """The blocks of a plain transformer, one for each map that it can return.

        Raises:
            ValueError: They are in no list of modules.
        """
        count = len(self.facts.strides)
        for module in self.network.modules():
            is_list = isinstance(module, torch.nn.ModuleList | torch.nn.Sequential)
            if is_list and len(module) == count and len({type(block) for block in module}) == 1:
                return list(module)
        raise ValueError(f"{self.name} has no list of {count} blocks")

    def train(self, mode: bool = True) -> LibraryBackbone:
        return super().train(mode and not self.frozen)

    # -- forward -----------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps of an image.

        Args:
            x: (B, C, H, W).

        Returns:
            (B, C_i, ceil(H / s_i), ceil(W / s_i)) for each output of stride s_i.

        Raises:
            ValueError: The network does not take such images.
        """
        check_image(x, self.name, self.in_channels, self.min_size)
        height, width = x.shape[-2:]
        if self.out_stride is None:
            x = pad_image(x, self.name, self.facts)
        else:
            x = resize_image(x, self.name, self.facts, self.out_stride)
        if self.frozen:
            with torch.no_grad():
                maps = self.library.maps(self.network, x, self._taken)
        else:
            maps = self.library.maps(self.network, x, self._taken)
        return tuple(
            y[..., : math.ceil(height / stride), : math.ceil(width / stride)]
            for y, stride in zip(maps, self.out_strides, strict=True)
        )

    # -- weights -----------------------------------------------------------------------------------

    def init_weights(self) -> None:
        """Load the weights that `init_cfg` or else `pretrained` names, or draw them; once.

        Of the processes of a machine the first one downloads, and the others find the files.
        """
        if getattr(self, "_loaded", False):
            return
        if self.init_cfg:
            initialize(self, self.init_cfg)
        elif self.pretrained:
            load_published(self.network, self.library, self.name)
        else:
            self.library.draw(self.network)
        self._loaded = self._is_init = True

    def rename_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights under the library's names, under ours; what has our names already stays."""
        if any(".network." in f".{key}" for key in weights):
            return dict(weights)
        return {f"network.{key}": v for key, v in inner(weights, self.facts.names).items()}

    def may_be_ignored(self, name: str) -> str | None:
        """As `Network.may_be_ignored`."""
        if name.removeprefix("network.") in self.facts.names:
            return "the classifier, or a part that no output needs"
        return None

    def may_be_missing(self, name: str) -> str | None:
        """As `Network.may_be_missing`."""
        return may_be_missing(name)

    def adapt_weight(self, name: str, value: Tensor) -> None:
        """As `Network.adapt_weight`: nothing is resized."""

    # -- depth -------------------------------------------------------------------------------------

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """As `BaseBackbone.get_layer_depth`: stem, blocks, and what follows the last one."""
        depths, count = self.facts.depths
        name = param_name.removeprefix(prefix)
        inside = param_name.startswith(prefix) and name.startswith("network.")
        return (depths[name.removeprefix("network.")] if inside else count - 1), count
