"""Queries to panoptic, semantic and instance segmentation."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmeffvit.models.heads.kmax.targets import mask_probabilities

#: share of a pixel above which it belongs to a query
PIXEL_THRESHOLD = 0.4


@dataclass(frozen=True)
class PanopticRules:
    """When a query becomes a segment; values are those for COCO.

    Attributes:
        thing_threshold: Least probability of a thing's class (ADE20K 0.4, Cityscapes 0.5).
        stuff_threshold: The same for stuff (0.4, 0.3).
        overlap_threshold: Share of its pixels that a segment must still get (Cityscapes 0.9).
        class_exponent: Of the class's probability, in the score by which queries are ordered.
        mask_exponent: Of the mean share of a query's pixels (Cityscapes 0).
        pixel_threshold: Share of a pixel above which it belongs to a query.
    """

    thing_threshold: float = 0.7
    stuff_threshold: float = 0.5
    overlap_threshold: float = 0.8
    class_exponent: float = 1.0
    mask_exponent: float = 1.0
    pixel_threshold: float = PIXEL_THRESHOLD


@dataclass
class Panoptic:
    """Segments of an image.

    Attributes:
        ids: (H, W), int32, from 1 in the order in which they were found; 0 for none.
        labels: Class of each, the first for id 1.
    """

    ids: Tensor
    labels: list[int] = field(default_factory=list)


def panoptic(
    class_logits: Tensor, mask_logits: Tensor, num_things: int, rules: PanopticRules
) -> Panoptic:
    """Give pixels to queries, those of the best score first.

    Args:
        class_logits: (N, K + 1); classes below `num_things` are things.
        mask_logits: (N, H, W).
        num_things: Number of things.
        rules: When a query becomes a segment. Stuff of a class that is there joins it.
    """
    shares = mask_probabilities(mask_logits)
    masks = shares > rules.pixel_threshold
    scores, labels = class_logits.softmax(-1, dtype=torch.float32)[:, :-1].max(-1)
    order = scores**rules.class_exponent * mask_scores(shares, masks) ** rules.mask_exponent
    result = Panoptic(torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device))
    stuff: dict[int, int] = {}
    for query in order.argsort(descending=True).tolist():
        label = int(labels[query])
        is_thing = label < num_things
        if scores[query] <= (rules.thing_threshold if is_thing else rules.stuff_threshold):
            continue
        free = masks[query] & (result.ids == 0)
        if not free.sum() > rules.overlap_threshold * masks[query].sum():
            continue
        number = None if is_thing else stuff.get(label)
        if number is None:
            result.labels.append(label)
            number = len(result.labels)
            if not is_thing:
                stuff[label] = number
        result.ids[free] = number
    return result


def semantic(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Class scores of pixels: (..., N, K + 1) and (..., N, H, W) to (..., K, H, W)."""
    classes = class_logits.softmax(-1, dtype=torch.float32)[..., :-1]
    return torch.einsum("...nk,...nhw->...khw", classes, mask_probabilities(mask_logits))


def instances(
    class_logits: Tensor, mask_logits: Tensor, num_things: int, max_per_image: int = 100
) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of a query and a class, things alone.

    Returns:
        Scores (M,), labels (M,) and masks (M, H, W), bool.
    """
    classes = class_logits.softmax(-1, dtype=torch.float32)[:, :-1]
    best, index = classes.flatten().topk(min(max_per_image, classes.numel()))
    query, label = index // classes.shape[1], index % classes.shape[1]
    keep = label < num_things
    best, query, label = best[keep], query[keep], label[keep]
    shares = mask_probabilities(mask_logits)
    masks = shares > PIXEL_THRESHOLD
    return best * mask_scores(shares, masks, 1e-6)[query], label, masks[query]


def mask_scores(shares: Tensor, masks: Tensor, eps: float = 0.0) -> Tensor:
    """Mean share of each query's pixels: (N, H, W) to (N,); 0 without pixels."""
    sums, counts = (shares * masks).sum((1, 2)), masks.sum((1, 2))
    return sums / (counts + eps if eps else counts.clamp_min(1))
