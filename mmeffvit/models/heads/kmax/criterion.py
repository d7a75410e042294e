"""The losses of kMaX-DeepLab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.errors import did_you_mean
from mmeffvit.models.heads.kmax.decoder import Prediction
from mmeffvit.models.heads.kmax.network import KMaXOutput
from mmeffvit.models.heads.kmax.targets import (
    Segments,
    Targets,
    make_targets,
    mask_probabilities,
    sample_pixels,
    share_of_entries,
    soft_cross_entropy,
    unit_targets,
)
from mmeffvit.ops.precision import autocast_disabled

#: of the authors
WEIGHTS = {"ce": 3.0, "mask": 0.3, "dice": 3.0, "pixel_insdis": 1.0, "aux_semantic": 1.0}
#: of classes; nothing has one minus it
_ALPHA = 0.75
_TEMPERATURE = 0.3


class KMaXCriterion(nn.Module):
    """PQ-style losses of classes and masks, discrimination of pixels, and the auxiliary semantics.

    Everything is in float32, at the size of the masks.

    Args:
        weights: Of some losses, others keep `WEIGHTS`.
        num_samples: Pixels per image of the discrimination; None for all.
        sharpness: How much those of small segments are preferred (0.6 for Cityscapes).
        num_semantic_samples: Pixels per image of the semantic loss; None for all (Cityscapes).
        semantic_sharpness: As `sharpness`.
        share_matching: Match the final prediction alone, and train all layers on that.

    Raises:
        ValueError: A weight is of no loss.
    """

    #: draws uniform noise like a tensor
    draw: Callable[[Tensor], Tensor] = staticmethod(torch.rand_like)

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        num_samples: int | None = 4096,
        sharpness: float = 1.5,
        num_semantic_samples: int | None = 4096,
        semantic_sharpness: float = 2.0,
        share_matching: bool = True,
    ):
        super().__init__()
        for name in set(weights or {}) - set(WEIGHTS):
            raise ValueError(
                f"there is no loss '{name}'{did_you_mean(name, WEIGHTS)}; there are "
                f"{', '.join(WEIGHTS)}"
            )
        self.weights = {**WEIGHTS, **(weights or {})}
        self.num_samples, self.sharpness = num_samples, sharpness
        self.num_semantic_samples = num_semantic_samples
        self.semantic_sharpness = semantic_sharpness
        self.share_matching = share_matching

    def forward(self, output: KMaXOutput, segments: Sequence[Segments]) -> dict[str, Tensor]:
        """Weighted losses: ``loss_ce`` ... of the last prediction, ``d0.loss_ce`` ... of layers."""
        device = output.final.mask_logits.device
        with autocast_disabled(device.type):
            targets = make_targets(output.final, segments)
            losses = self.of_queries(output.final, targets)
            if output.semantic is not None:
                losses["aux_semantic"] = self.of_semantics(output.semantic.float(), targets)
            named = {f"loss_{name}": self.weights[name] * loss for name, loss in losses.items()}
            for index, layer in enumerate(output.layers):
                if not self.share_matching:
                    targets = make_targets(layer, segments)
                losses = self.of_queries(layer, targets)
                for name, loss in losses.items():
                    named[f"d{index}.loss_{name}"] = self.weights[name] * loss
        return named

    def of_queries(self, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """The four losses of a prediction, without weights."""
        logits = prediction.mask_logits.float()
        return {
            "ce": class_loss(prediction.class_logits.float(), targets),
            "mask": mask_loss(logits, targets),
            "dice": dice_loss(logits, targets),
            "pixel_insdis": self.pixel_loss(prediction.embeddings.float(), targets),
        }

    def pixel_loss(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """Pixels of one segment look alike: contrast of embeddings (B, D, h, w) at some pixels."""
        chosen = self._choose(targets, self.num_samples, self.sharpness)
        embeddings = _take(embeddings.flatten(2), chosen)
        logits = torch.einsum("bdl,bdm->blm", embeddings, embeddings) / _TEMPERATURE
        same = unit_targets(_take(targets.masks.flatten(2), chosen))
        return share_of_entries(soft_cross_entropy(logits, same))

    def of_semantics(self, logits: Tensor, targets: Targets) -> Tensor:
        """Cross entropy of class logits per pixel (B, K or K + 1, h', w').

        Where they are fewer than the masks have, of every n-th pixel.

        Raises:
            ValueError: They are more.
        """
        size, own = targets.semantic.shape[-2:], logits.shape[-2:]
        if own[0] > size[0] or own[1] > size[1]:
            raise ValueError(
                f"the semantic map is {tuple(own)}, finer than the masks, which are {tuple(size)}"
            )
        labels = _thin(targets.semantic, own)
        losses = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none").flatten(1)
        if self.num_semantic_samples:
            number, sharpness = self.num_semantic_samples, self.semantic_sharpness
            losses = losses.gather(1, self._choose(targets, number, sharpness, own))
        return share_of_entries(losses)

    def _choose(
        self, targets: Targets, number: int | None, sharpness: float, size: Sequence[int] = ()
    ) -> Tensor:
        """Indices (B, k) of pixels, of the maps of targets or of every n-th of theirs."""
        area, void = targets.inverse_area, targets.void
        if size:
            area, void = _thin(area, size), _thin(void, size)
        area, void = area.flatten(1), void.flatten(1)
        if number is None:
            return torch.arange(area.shape[1], device=area.device).expand_as(area)
        return sample_pixels(area, void, self.draw(area), sharpness)[:, :number]


def _thin(x: Tensor, size: Sequence[int]) -> Tensor:
    """Every n-th row and column of (B, h, w), to a size; the first is kept."""
    rows, columns = (
        torch.arange(small, device=x.device) * ((large - 1) // max(1, small - 1))
        for large, small in zip(x.shape[1:], size)
    )
    return x[:, rows[:, None], columns]


def class_loss(class_logits: Tensor, targets: Targets) -> Tensor:
    """Cross entropy of (B, N, K + 1), weighted by the quality of masks."""
    losses = F.cross_entropy(class_logits.transpose(1, 2), targets.labels, reduction="none")
    nothing = targets.labels == class_logits.shape[2] - 1
    balance = torch.where(nothing, 1 - _ALPHA, _ALPHA)
    return share_of_entries(losses * balance * targets.class_weights)


def mask_loss(mask_logits: Tensor, targets: Targets) -> Tensor:
    """Cross entropy over queries, pixel by pixel, of (B, N, h, w)."""
    losses = soft_cross_entropy(mask_logits, targets.masks)
    return share_of_entries(losses.masked_fill(targets.void, 0))


def dice_loss(mask_logits: Tensor, targets: Targets) -> Tensor:
    """One minus dice, weighted by the quality of classes, over the number of queries."""
    shares = (mask_probabilities(mask_logits) * ~targets.void[:, None]).flatten(2)
    masks = targets.masks.flatten(2)
    overlap = (shares * masks).sum(2)
    losses = 1 - (2 * overlap + 1) / (shares.sum(2) + masks.sum(2) + 1)
    return (losses * targets.mask_weights).sum(1).mean() * _ALPHA / masks.shape[1]


def _take(x: Tensor, index: Tensor) -> Tensor:
    """(B, C, L) at (B, k): (B, C, k)."""
    return x.gather(2, index[:, None].expand(-1, x.shape[1], -1))
