"""Instances of Mask2Former of mmdet: whole masks, and boxes around them.

B images, Q queries, K instances that come out, N classes, H W an image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.deploy.deformable import SymbolicSizes, with_plain_attention
from mmeffvit.deploy.errors import ExportError
from mmeffvit.deploy.selection import Candidates, as_outputs, gather

#: keeps scores of masks without a pixel finite, as mmdet does
_EPS = 1e-6


class Instances(nn.Module):
    """Instances of a ``Mask2Former``.

    Args:
        model: Of mmdet; it is copied, as its attention gets another form.

    Raises:
        ExportError: It predicts a panoptic map, or is of another kind.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        cfg = model.test_cfg
        if type(model).__name__ != "Mask2Former":
            raise ExportError(
                f"{type(model).__name__} decodes pixels in its own way; Mask2Former is served"
            )
        if cfg.get("panoptic_on", True) or not cfg.get("instance_on", False):
            raise ExportError(
                "a panoptic map is merged query by query, which no graph does; export its "
                "instances with --cfg-options model.test_cfg.panoptic_on=False "
                "model.test_cfg.instance_on=True"
            )
        if model.num_stuff_classes:
            raise ExportError(
                f"{model.num_stuff_classes} of its classes are no things; a model that was trained "
                "on instances alone is served"
            )
        self.model = with_plain_attention(model)
        self.count = int(cfg.get("max_per_image", 100))

    def forward(self, x: Tensor, size: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, C, H', W'), of which `size` is no padding, to instances.

        Masks (B, K, H', W') are bool, and empty where there is padding.
        """
        shape = x.shape[2:]
        with SymbolicSizes():
            logits, masks = self.model.panoptic_head(self.model.extract_feat(x), None)
        masks = F.interpolate(masks[-1], shape, mode="bilinear", align_corners=False)
        inside = (torch.arange(shape[0]).unsqueeze(1) < size[0]) & (
            torch.arange(shape[1]) < size[1]
        )
        covered = (masks > 0) & inside
        quality = (masks.sigmoid() * covered).sum((2, 3)) / (covered.sum((2, 3)) + _EPS)
        # the best pairs of query and class by the class alone, then in the order of both
        scores = logits[-1].softmax(-1)[..., :-1]
        classes = scores.size(-1)
        scores, pair = scores.flatten(1).topk(self.count)
        scores, order = (scores * quality.gather(1, pair // classes)).sort(1, descending=True)
        pair = pair.gather(1, order)
        query = pair // classes
        chosen = Candidates(gather(_boxes_around(covered), query), scores, pair % classes)
        every = query[..., None, None].expand(-1, -1, *shape)
        return as_outputs(chosen) | {"padded_masks": covered.gather(1, every)}


def _boxes_around(covered: Tensor) -> Tensor:
    """Corners (B, Q, 4) around masks (B, Q, H, W); zeros for a mask without a pixel."""
    sides = []
    for there in (covered.any(2), covered.any(3)):  # columns, then rows
        place = torch.arange(there.size(2), dtype=torch.float32)
        first = torch.where(there, place, torch.inf).amin(2)
        first = torch.where(there.any(2), first, 0.0)
        sides.append((first, torch.where(there, place + 1, 0.0).amax(2)))
    (left, right), (top, bottom) = sides
    return torch.stack((left, top, right, bottom), 2)
