"""Detectors of one stage that share mmdet's ``BaseDenseHead``: RetinaNet, FCOS, ATSS and others.

B images, A priors of a pixel, K classes, N candidates of a level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeffvit.deploy.errors import ExportError
from mmeffvit.deploy.selection import (
    NONE,
    Candidates,
    Suppression,
    as_outputs,
    decode,
    gather,
    suppress,
)


def grid_priors(head: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
    """Priors of every level, (H W A, D)."""
    sizes = [level.shape[2:] for level in maps]
    return head.prior_generator.grid_priors(sizes, dtype=maps[0].dtype, device=maps[0].device)


def rows(level: Tensor, channels: int) -> Tensor:
    """A map (B, A D, H, W) as (B, H W A, D)."""
    return level.permute(0, 2, 3, 1).reshape(level.size(0), -1, channels)


class OneStage(nn.Module):
    """Boxes of a one-stage detector.

    Args:
        model: Of mmdet, with ``backbone``, perhaps ``neck``, and ``bbox_head``.

    Raises:
        ExportError: The head chooses boxes in its own way.
    """

    def __init__(self, model: nn.Module) -> None:
        from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

        super().__init__()
        self.backbone, self.head = model.backbone, model.bbox_head
        self.neck = model.neck if model.with_neck else None
        for name in ("predict_by_feat", "_predict_by_feat_single", "_bbox_post_process"):
            if getattr(type(self.head), name, None) is not getattr(BaseDenseHead, name):
                raise ExportError(
                    f"the head {type(self.head).__name__} chooses boxes in its own way "
                    f"({name}); heads are served that do as mmdet's BaseDenseHead, such as "
                    "RetinaHead, FCOSHead and ATSSHead"
                )
        if getattr(self.head.loss_cls, "custom_cls_channels", False):
            raise ExportError(f"the loss {type(self.head.loss_cls).__name__} scores in its own way")
        cfg = model.test_cfg
        self.suppression = Suppression.from_config(cfg.nms)
        self.count, self.least = int(cfg.max_per_img), float(cfg.get("score_thr", 0.0))
        self.candidates = int(cfg.get("nms_pre", -1))
        self.smallest_box = float(cfg.get("min_bbox_size", -1))

    def forward(self, x: Tensor, size: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, C, H', W'), of which `size` is no padding, to boxes."""
        x = self.backbone(x)
        if self.neck is not None:
            x = self.neck(x)
        outs = self.head(x)
        factors = outs[2] if len(outs) > 2 else [None] * len(outs[0])
        levels = zip(outs[0], outs[1], factors, grid_priors(self.head, outs[0]))
        found = [self._choose(*level) for level in levels]
        scores, labels, deltas, priors = (torch.cat(parts, 1) for parts in zip(*found))
        boxes = decode(self.head.bbox_coder, priors, deltas, size)
        scores = drop_small(boxes, scores, self.smallest_box)
        # what is not above the threshold has been given up by score alone
        chosen = suppress(Candidates(boxes, scores, labels), self.suppression, self.count, NONE)
        return as_outputs(chosen)

    def _choose(
        self, logits: Tensor, deltas: Tensor, factors: Tensor | None, priors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The best pairs of prior and class of a level: scores, labels, deltas and priors."""
        head = self.head
        logits = rows(logits, head.cls_out_channels)
        deltas = rows(deltas, head.bbox_coder.encode_size)
        priors = priors.unsqueeze(0).expand(logits.size(0), -1, -1)
        factors = rows(factors, 1) if factors is not None else None
        # priors first: the best pairs are among the priors whose best class is among the best
        measure = logits if head.use_sigmoid_cls else logits.softmax(-1)[..., :-1]
        count = self.candidates
        if count > 0:
            count = torch.sym_min(count, logits.size(1))
            best = measure.amax(-1).topk(count).indices
            measure, deltas, priors = (gather(part, best) for part in (measure, deltas, priors))
            factors = gather(factors, best) if factors is not None else None
        scores = measure.sigmoid() if head.use_sigmoid_cls else measure
        classes = scores.size(-1)
        scores, pair = scores.flatten(1).topk(count if self.candidates > 0 else scores[0].numel())
        prior = pair // classes
        real = scores > self.least
        if factors is not None:
            scores = scores * gather(factors, prior).squeeze(-1).sigmoid()
        scores = scores.masked_fill(~real, NONE)
        return scores, pair % classes, gather(deltas, prior), gather(priors, prior)


def drop_small(boxes: Tensor, scores: Tensor, smallest: float) -> Tensor:
    """Scores, `NONE` where a box is not wider and higher than `smallest`; all if it is negative."""
    if smallest < 0:
        return scores
    extent = boxes[..., 2:] - boxes[..., :2]
    return scores.masked_fill((extent <= smallest).any(-1), NONE)
