"""Learning from images without labels (arXiv 2111.14887, section 3.1): a teacher says what they
show, and pieces of labelled images are pasted into them (ClassMix, arXiv 2007.07936).

All random numbers are drawn by PyTorch's generator of the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor
from torchvision.transforms import ColorJitter, GaussianBlur


def pseudo_labels(
    logits: Tensor, threshold: float, ignore_top: int = 0, ignore_bottom: int = 0
) -> tuple[Tensor, Tensor]:
    """What a teacher says of each pixel, and how much it counts.

    The weight is one number for the whole batch: the share of pixels of which the teacher is sure.

    Args:
        logits: (B, K, H, W).
        threshold: Probability from which on the teacher is sure.
        ignore_top: Rows at the upper edge that do not count, such as those that a lens distorts.
        ignore_bottom: Rows at the lower edge that do not count, such as the car's own bonnet.

    Returns:
        Labels (B, H, W), int64, and weights (B, H, W).
    """
    confidence, labels = logits.softmax(1).max(1)
    share = (confidence >= threshold).to(logits.dtype).mean()
    weights = share.repeat(labels.shape)
    weights[:, :ignore_top] = 0
    weights[:, labels.shape[1] - ignore_bottom :] = 0
    return labels, weights


def choose_classes(labels: Tensor) -> list[Tensor]:
    """Half of the classes of a batch, rounded up, drawn anew for each image.

    As the authors have it, the classes are those of the whole batch, and what has no label is one
    of them; one can be drawn that its image does not show.

    Args:
        labels: (B, H, W).

    Returns:
        (ceil(classes / 2),) for each image.
    """
    classes = labels.unique().cpu()
    half = ceil(len(classes) / 2)
    return [classes[torch.randperm(len(classes))[:half]] for _ in labels]


def class_mask(labels: Tensor, classes: Sequence[Tensor]) -> Tensor:
    """Which pixels (B, H, W), bool, have one of their image's classes."""
    return torch.stack(
        [torch.isin(own, chosen.to(own.device)) for own, chosen in zip(labels, classes)]
    )


def blur_size(side: int) -> int:
    """Taps of the blur along a side: an odd number, about a tenth of it."""
    tenth = ceil(0.1 * side)
    return tenth - 1 + tenth % 2


class Augmentation:
    """Colour jitter and blur of mixed images, each of which a batch gets or not.

    Args:
        strength: Of changes of brightness, contrast, saturation and hue.
        jitter_share: Share of the batches whose colours change.
        blur_share: Share of the batches that are blurred.
    """

    def __init__(self, strength: float = 0.2, jitter_share: float = 0.8, blur_share: float = 0.5):
        self.jitter = ColorJitter(strength, strength, strength, strength)
        self.shares = torch.tensor([jitter_share, blur_share])

    def __call__(self, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Images changed, each by its own numbers.

        Args:
            images: (B, 3, H, W), normalised.
            mean: (3, 1, 1) by which they are, of pixels from 0 to 255.
            std: (3, 1, 1) by which they are.
        """
        jitter, blur = (torch.rand(2) < self.shares).tolist()
        if jitter:
            pixels = ((images * std + mean) / 255).clamp(0, 1)
            pixels = torch.stack([self.jitter(image) for image in pixels])
            images = (pixels * 255 - mean) / std
        if blur:
            taps = [blur_size(side) for side in images.shape[:-3:-1]]
            soften = GaussianBlur(taps, (0.15, 1.15))
            images = torch.stack([soften(image) for image in images])
        return images
