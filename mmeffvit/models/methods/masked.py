"""The encoder of SimMIM (arXiv 2111.09886): a backbone that learns from masked images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.models.methods.base import add_parts, build_backbone
from mmeffvit.registry import MODELS


@MODELS.register_module(name="MaskedBackbone")
def masked_backbone(backbone: Mapping[str, Any] | nn.Module) -> nn.Module:
    """Build a backbone for mmpretrain's ``SimMIM``: it takes an image and a mask.

    Section 3.2 of the paper: every token of a masked patch is replaced by one learnt token, after
    the patch embedding and before positions are added. Our stems are convolutions that overlap, so
    masked pixels are zero, the mean colour, before the stem as well: nothing in a masked patch
    reaches a visible token. Behind a stem without overlap this is the paper's, to the last digit.

    It stays an object of its own class, with its own names of weights, so that a checkpoint of the
    pre-training is loaded by ``init_cfg=dict(type='Pretrained', checkpoint=FILE)`` of the backbone
    in any config. The token is called ``mask_token``.

    Args:
        backbone: Its config, or the network itself: a pyramid or a plain ViT of this package.

    Raises:
        ValueError: It is none.
    """
    network = build_backbone(backbone, "SimMIM", ("blocks", "stem"))
    token = nn.Parameter(torch.zeros(1, network.stage_channels[0], 1, 1))
    nn.init.trunc_normal_(token, std=0.02)
    add_parts(network, _Masked, "Masked", mask_token=token)
    return network


class _Masked:
    """A backbone that takes a mask, too; before its own class."""

    def forward(self, image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Maps of an image, of which parts may be masked.

        Args:
            image: (B, C, H, W).
            mask: (B, h, w), not zero where the image is masked; a cell of it covers H/h x W/w
                pixels, as mmpretrain's ``SimMIMMaskGenerator`` makes it. None masks nothing.

        Raises:
            ValueError: The mask has another shape.
        """
        if mask is None:
            return super().forward(image)
        if mask.dim() != 3 or mask.shape[0] != image.shape[0]:
            raise ValueError(
                f"a mask of images of shape {tuple(image.shape)} has the shape "
                f"({image.shape[0]}, h, w), got {tuple(mask.shape)}"
            )
        hidden = F.interpolate((mask != 0).float().unsqueeze(1), image.shape[-2:]).bool()

        def replace(x: Tensor, stage: int, place: int) -> Tensor:
            if stage or place:
                return x
            pixels = self.pad_image(hidden)  # what is added is not masked
            stride = -(-pixels.shape[-2] // x.shape[-2])
            cells = pixels[..., ::stride, ::stride]
            return torch.where(cells, self.mask_token.to(x.dtype), x)

        return super().forward(image.masked_fill(hidden, 0.0), replace)
