"""Who is to find what: one matching per image, and what every query is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.models.heads.kmax.decoder import Prediction

#: least of denominators and weights
EPS = 1e-5


@dataclass
class Segments:
    """The true segments of an image, things and merged stuff.

    Attributes:
        labels: (G,), classes from 0 to K - 1.
        masks: (G, h, w), bool, of the size of the mask logits.
    """

    labels: Tensor
    masks: Tensor


@dataclass
class Matching:
    """Pairs of queries and true segments of one image.

    Attributes:
        queries: (M,), indices of queries.
        segments: (M,), indices of segments.
        mask_quality: (M,), dice of their masks.
        class_quality: (M,), probability of the segment's class.
    """

    queries: Tensor
    segments: Tensor
    mask_quality: Tensor
    class_quality: Tensor


@dataclass
class Targets:
    """What the queries of a batch are trained on.

    Attributes:
        masks: (B, N, h, w), 0 for queries without a segment; where segments overlap, shares.
        labels: (B, N), K for nothing.
        mask_weights: (B, N), 0 for queries without a segment.
        class_weights: (B, N).
        void: (B, h, w), bool: pixels of no segment.
        inverse_area: (B, h, w), pixels of the image over those of the segment.
        semantic: (B, h, w), classes, -1 where there is none.
    """

    masks: Tensor
    labels: Tensor
    mask_weights: Tensor
    class_weights: Tensor
    void: Tensor
    inverse_area: Tensor
    semantic: Tensor


def mask_probabilities(mask_logits: Tensor) -> Tensor:
    """Mask logits (..., N, h, w) to shares of each pixel: a softmax over queries, in float32."""
    return mask_logits.softmax(-3, dtype=torch.float32)


@torch.no_grad()
def match(class_logits: Tensor, mask_logits: Tensor, segments: Segments) -> Matching:
    """Pair queries with segments so that the sum of dice times class probability is largest.

    Args:
        class_logits: (N, K + 1).
        mask_logits: (N, h, w).
        segments: Of the image.
    """
    from scipy.optimize import linear_sum_assignment

    if not len(segments.labels):
        none = torch.zeros(0, dtype=torch.long, device=mask_logits.device)
        return Matching(none, none, none.float(), none.float())
    masks = segments.masks.flatten(1).float()
    shares = mask_probabilities(mask_logits).flatten(1) * masks.amax(0)
    sums = shares.sum(1)[:, None] + masks.sum(1)
    dice = shares @ masks.T / (sums / 2 + EPS)  # (N, G)
    quality = class_logits.softmax(-1, dtype=torch.float32)[:, segments.labels]
    pairs = linear_sum_assignment((dice * quality).cpu().numpy(), maximize=True)
    queries, found = (torch.as_tensor(index, device=dice.device) for index in pairs)
    return Matching(queries, found, dice[queries, found], quality[queries, found])


@torch.no_grad()
def make_targets(prediction: Prediction, segments: Sequence[Segments]) -> Targets:
    """Match the queries of each image, and make of the pairs what they are trained on.

    Weights are those of PQ: classes count by the quality of the mask, masks by that of the class.
    An unmatched query counts by the share of its mask that no segment has.
    """
    class_logits, mask_logits = prediction.class_logits, prediction.mask_logits
    matchings = [match(c, m, s) for c, m, s in zip(class_logits, mask_logits, segments)]
    masks = torch.zeros_like(mask_logits, dtype=torch.float32)
    labels = class_logits.new_full(class_logits.shape[:2], class_logits.shape[2] - 1).long()
    mask_weights = masks.new_zeros(labels.shape)
    for i, (pairs, of_image) in enumerate(zip(matchings, segments)):
        masks[i, pairs.queries] = of_image.masks[pairs.segments].float()
        labels[i, pairs.queries] = of_image.labels[pairs.segments]
        mask_weights[i, pairs.queries] = pairs.class_quality.clamp_min(EPS)
    counts = masks.sum(1)
    void = counts < 1
    masks = masks / counts.clamp_min(1)[:, None]
    shares = mask_probabilities(mask_logits)
    class_weights = (shares * void[:, None]).sum((2, 3)) / (shares.sum((2, 3)) + EPS)
    for i, pairs in enumerate(matchings):
        class_weights[i, pairs.queries] = pairs.mask_quality
    area = torch.einsum("bnhw,bn->bhw", masks, masks.sum((2, 3)))
    pixels = masks.shape[2] * masks.shape[3]
    return Targets(
        masks,
        labels,
        mask_weights,
        class_weights.clamp_min(EPS),
        void,
        pixels / area.clamp_min(1),
        labels.gather(1, masks.argmax(1).flatten(1)).view_as(void).masked_fill(void, -1),
    )


def share_of_entries(losses: Tensor) -> Tensor:
    """(B, ...): the mean over entries that are not 0 of each image, then over images."""
    losses = losses.flatten(1)
    return (losses.sum(1) / losses.ne(0).sum(1).clamp_min(1)).mean()


def sample_pixels(inverse_area: Tensor, void: Tensor, noise: Tensor, sharpness: float) -> Tensor:
    """Order pixels by chance, those of small segments first, those of none last.

    Drawing without replacement with the Gumbel trick; probabilities are as the `sharpness`-th
    power of the inverse area.

    Args:
        inverse_area: (B, L).
        void: (B, L).
        noise: (B, L), uniform in [0, 1).
        sharpness: Exponent.

    Returns:
        (B, L), indices.
    """
    gumbel = -torch.log(-torch.log(noise))
    logits = inverse_area.log() * sharpness - 99999.0 * void + gumbel
    return logits.argsort(1, descending=True)


def unit_targets(masks: Tensor) -> Tensor:
    """Soft labels (B, L, L) of pairs of pixels with targets (B, N, L); columns add up to 1 or 0."""
    same = torch.einsum("bnl,bnm->blm", masks, masks)
    return same / same.sum(1, keepdim=True).clamp_min(1)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum t log softmax over axis 1."""
    return -(targets * F.log_softmax(logits, 1)).sum(1)
