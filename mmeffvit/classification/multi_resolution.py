"""Training at several resolutions at once, for mmpretrain (ResFormer, arXiv 2212.00776)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from mmeffvit.registry import MODELS


def consistency_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between features, those of the teacher whitened and without a gradient.

    Args:
        student: (B, C) features of an image.
        teacher: (B, C) features of the same image at the next larger resolution.

    Returns:
        The mean, of one number.
    """
    whitened = F.layer_norm(teacher.detach(), teacher.shape[-1:], eps=1e-6)
    return F.smooth_l1_loss(student, whitened)


@MODELS.register_module()
class MultiResolutionClassifier(ImageClassifier):
    """mmpretrain's `ImageClassifier`, which sees each batch at several resolutions (section 3.3).

    The images of a batch, with mixed labels or not, are resized to each of them, bicubically and
    with antialiasing. To the classification loss of each resolution but the largest is added how
    far its features before the head are from those of the next larger one; all of it is averaged
    over resolutions, for one step of the optimizer. In the paper images of a batch may also be
    augmented anew for each resolution; here they are alike.

    Predictions are those of `ImageClassifier`, of images as they come.

    Args:
        resolutions: Sides of the images, each smaller than the one before.
        consistency: Weight of the distance of features.
        **kwargs: Those of `ImageClassifier`. Backbone and neck return (B, C) features last.

    Raises:
        ValueError: There are no resolutions, or they do not decrease.
    """

    def __init__(
        self,
        *args,
        resolutions: Sequence[int] = (224, 160, 128),
        consistency: float = 1.0,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        sides = list(resolutions)
        if not sides or sides != sorted(set(sides), reverse=True) or sides[-1] < 1:
            raise ValueError(
                "resolutions must be sides in pixels, the largest first, each once; got "
                f"{tuple(resolutions)}"
            )
        self.resolutions = tuple(sides)
        self.consistency = consistency

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of a batch, all of them averaged over resolutions.

        Args:
            inputs: (B, C, H, W) images, at least as large as the largest resolution.
            data_samples: Their labels.

        Returns:
            What the head has, and ``loss_consistency`` if there are two resolutions or more.
        """
        count = len(self.resolutions)
        losses: dict[str, Tensor] = {}
        teacher, distance = None, inputs.new_zeros(())
        for side in self.resolutions:
            feats = self.extract_feat(resized(inputs, side))
            for name, value in self.head.loss(feats, data_samples).items():
                losses[name] = losses.get(name, 0) + value / count
            features = feats[-1] if isinstance(feats, tuple) else feats
            if teacher is not None:
                distance = distance + consistency_loss(features, teacher)
            teacher = features
        if count > 1:
            losses["loss_consistency"] = self.consistency / count * distance
        return losses


def resized(images: Tensor, side: int) -> Tensor:
    """Images (B, C, H, W) as squares of `side` pixels; themselves if they are."""
    if images.shape[-2:] == torch.Size((side, side)):
        return images
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True)
