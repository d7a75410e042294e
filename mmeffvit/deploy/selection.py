"""Choosing boxes by fixed numbers: what is not there is padded, and counted.

B images, N candidates, K boxes that come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmeffvit.deploy.errors import ExportError
from mmeffvit.deploy.operators import keep_after_nms

#: score of a candidate that is none
NONE = -1.0


class Candidates(NamedTuple):
    """Boxes to choose from.

    Attributes:
        boxes: (B, N, 4).
        scores: (B, N), `NONE` for what does not take part.
        labels: (B, N) int64.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Suppression(NamedTuple):
    """What a config says of non-maximum suppression.

    Attributes:
        iou_threshold: Overlap above which the lower score goes.
        class_agnostic: Whether boxes of other classes count.
    """

    iou_threshold: float
    class_agnostic: bool

    @classmethod
    def from_config(cls, nms: Mapping[str, Any]) -> Suppression:
        """Read ``test_cfg.nms``.

        Raises:
            ExportError: It asks for what ONNX's operator does not do.
        """
        nms = dict(nms)
        kind = nms.pop("type", "nms")
        if kind != "nms":
            raise ExportError(
                f"suppression of the type {kind!r} has no ONNX operator; 'nms' has: try "
                "--cfg-options with test_cfg...nms.type=nms"
            )
        read = cls(float(nms.pop("iou_threshold")), bool(nms.pop("class_agnostic", False)))
        nms.pop("split_thr", None)  # when mmcv suppresses class by class; the result is the same
        if nms:
            raise ExportError(f"suppression with {', '.join(sorted(nms))} is not served")
        return read


def best(candidates: Candidates, count: int) -> Candidates:
    """The `count` best candidates, best first; padded with zeros and the score `NONE`, (B, count).

    Equal scores come in the order in which the runtime sorts them.
    """
    batch = candidates.scores.size(0)
    scores = torch.cat((candidates.scores, candidates.scores.new_full((batch, count), NONE)), 1)
    scores, chosen = scores.topk(count)
    missing = scores <= NONE
    # padding has no box of its own: it points at the first one, and is emptied below
    chosen = chosen.masked_fill(missing, 0)
    boxes = gather(candidates.boxes, chosen).masked_fill(missing.unsqueeze(-1), 0.0)
    return Candidates(boxes, scores, candidates.labels.gather(1, chosen).masked_fill(missing, 0))


def gather(rows: Tensor, chosen: Tensor) -> Tensor:
    """Rows (B, N, D) at the places (B, K): (B, K, D)."""
    return rows.gather(1, chosen.unsqueeze(-1).expand(-1, -1, rows.size(-1)))


def suppress(
    candidates: Candidates, suppression: Suppression, count: int, least: float
) -> Candidates:
    """The `count` best candidates above `least` that no better one of their class overlaps."""
    boxes, scores, labels = candidates
    apart = boxes
    if not suppression.class_agnostic:
        # mmcv's batched_nms moves every class to a place of its own, and rounds there
        inside = (scores > least).unsqueeze(-1)
        furthest = boxes.masked_fill(~inside, 0.0).flatten(1).amax(1)
        apart = boxes + (labels * (furthest + 1).unsqueeze(1)).unsqueeze(-1)
    keep = keep_after_nms(apart, scores, suppression.iou_threshold, least)
    return best(Candidates(boxes, scores.masked_fill(~keep, NONE), labels), count)


def clip(boxes: Tensor, size: Tensor) -> Tensor:
    """Boxes (..., 4) inside an image of `size`: rows and columns, (2,)."""
    return boxes.clamp(min=0).minimum(size[[1, 0, 1, 0]].to(boxes))


def decode(coder: Any, priors: Tensor, deltas: Tensor, size: Tensor) -> Tensor:
    """Boxes (B, N, 4) of a coder of mmdet from priors (B, N, D) and (B, N, 4), clipped if it does.

    Clipped here, not by the coder: it writes into every second column in place.
    """
    boxes = coder.decode(priors.flatten(0, 1), deltas.flatten(0, 1)).view(*deltas.shape[:2], 4)
    return clip(boxes, size) if getattr(coder, "clip_border", True) else boxes


def as_outputs(chosen: Candidates) -> dict[str, Tensor]:
    """Named outputs; scores of padding are 0, and ``counts`` (B,) says where it begins."""
    real = chosen.scores > NONE
    return {
        "boxes": chosen.boxes,
        "scores": chosen.scores.clamp(min=0.0),
        "labels": chosen.labels,
        "counts": real.sum(1),
    }
