"""The backbone of a recursive feature pyramid: DetectoRS (arXiv 2006.02334), section 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.models.backbones.base import MapEdit
from mmeffvit.models.methods.base import add_parts, build_backbone
from mmeffvit.registry import MODELS


@MODELS.register_module(name="RecursivePyramid")
def recursive_pyramid(
    backbone: Mapping[str, Any] | nn.Module,
    feedback_channels: int | None = None,
    output_img: bool = False,
) -> nn.Module:
    """Build a pyramid that mmdet's neck ``RFP`` can use, in both of its places.

    Section 3.2 of the paper: the backbone looks at the image a second time, and stage i then also
    reads what the feature pyramid made of the first look, by a 1x1 convolution that starts at zero.
    A ResNet adds it after the first block of a stage, which halves the map; here it is added to the
    map that enters the first block, which is where our stages have halved it. As in mmdet, the
    first level feeds nothing back.

    It stays an object of its own class, with its own names of weights; the convolutions are called
    ``feedback.<stage>``.

    Args:
        backbone: Its config, or the network itself: a pyramid of this package.
        feedback_channels: Channels of the levels that are fed back (mmdet's ``rfp_inplanes``). None
            builds no feedback, for the first look.
        output_img: Return the image before the maps, as ``RFP`` asks the first look to do.

    Raises:
        ValueError: It is no pyramid of ours, or there is no second map to feed anything back to.
    """
    network = build_backbone(backbone, "A recursive feature pyramid", ("blocks",))
    stages = network.out_indices[1:] if feedback_channels is not None else ()
    if feedback_channels is not None and not stages:
        raise ValueError(
            f"feedback needs two maps at least, got out_indices={network.out_indices}: the first "
            "one feeds nothing back"
        )
    convs = {
        str(stage): nn.Conv2d(feedback_channels, network.stage_channels[stage], 1)
        for stage in stages
    }
    for conv in convs.values():
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    add_parts(network, _Recursive, "Recursive", feedback=nn.ModuleDict(convs))
    network.output_img = output_img
    return network


class _Recursive:
    """A pyramid that returns the image as well, and takes feedback; before its own class."""

    def forward(self, image: Tensor, edit: MapEdit | None = None) -> tuple[Tensor, ...]:
        """Maps of an image (B, C, H, W), after the image itself if `output_img`."""
        maps = super().forward(image, edit)
        return (image, *maps) if self.output_img else maps

    def rfp_forward(self, image: Tensor, rfp_feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps of an image at a second look; the name is the one that mmdet's ``RFP`` calls.

        Args:
            image: (B, C, H, W).
            rfp_feats: Levels (B, C_feedback, ceil(H / s_i), ceil(W / s_i)), one for each output at
                least; the first, and those after the last output, are not read.

        Returns:
            Maps as of `forward`, without the image.

        Raises:
            ValueError: There are fewer levels than outputs, or one has another stride.
        """
        if len(rfp_feats) < len(self.out_indices):
            raise ValueError(
                f"{type(self).__name__} returns {len(self.out_indices)} maps and takes as many "
                f"levels of feedback at least, got {len(rfp_feats)}"
            )
        levels = dict(zip(self.out_indices, rfp_feats))

        def feed_back(x: Tensor, stage: int, place: int) -> Tensor:
            if place or str(stage) not in self.feedback:
                return x
            return x + _padded(self.feedback[str(stage)](levels[stage]), x, stage)

        return super().forward(image, feed_back)


def _padded(level: Tensor, x: Tensor, stage: int) -> Tensor:
    """A level in the size of a map, which is larger where the network pads images inside."""
    bottom, right = (own - given for own, given in zip(x.shape[-2:], level.shape[-2:]))
    if not (0 <= bottom < level.shape[-2] and 0 <= right < level.shape[-1]):
        raise ValueError(
            f"feedback to stage {stage} has maps of {tuple(level.shape[-2:])}, and the stage of "
            f"{tuple(x.shape[-2:])}: levels and outputs must have the same strides, in order"
        )
    return F.pad(level, (0, right, 0, bottom)) if bottom or right else level
