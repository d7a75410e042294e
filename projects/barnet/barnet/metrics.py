"""Area under the ROC curve and equal error rate, of images or of videos."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from scipy.stats import rankdata

from mmeffvit.registry import METRICS


def _split(scores: Sequence[float], labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    return scores, labels


def roc_auc(scores: Sequence[float], labels: Sequence[int]) -> float:
    """The share of pairs of a positive and a negative in which the positive has more; ties half.

    Args:
        scores: Larger for positives.
        labels: 1 for positives, 0 for negatives.

    Returns:
        NaN if there are no positives or no negatives.
    """
    scores, labels = _split(scores, labels)
    positives, negatives = labels.sum(), (~labels).sum()
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)[labels].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def equal_error_rate(scores: Sequence[float], labels: Sequence[int]) -> float:
    """Where the rates of both errors are equal, interpolated between thresholds; NaN as above."""
    scores, labels = _split(scores, labels)
    if labels.all() or not labels.any():
        return float("nan")
    thresholds = np.concatenate(([np.inf], np.unique(scores)[::-1]))
    accepted = scores >= thresholds[:, None]
    false_positive = accepted[:, ~labels].mean(1)
    false_negative = 1 - accepted[:, labels].mean(1)
    gap = false_positive - false_negative
    last = int(np.argmax(gap >= 0))
    if last == 0:
        return float(false_positive[0])
    share = -gap[last - 1] / (gap[last] - gap[last - 1])
    before, after = false_positive[last - 1], false_positive[last]
    return float(before + share * (after - before))


@METRICS.register_module()
class BinaryAUC(BaseMetric):
    """Area under the ROC curve (``auc``) and equal error rate (``eer``) of two classes.

    Args:
        positive: Index of the class whose probability is the score: that of forgeries.
        level: ``'frame'``; or ``'video'``, where scores of images of one video are averaged first.
            The literature has both, and they are not comparable.
        video_key: Name of the field of a sample that says which video it is of.
        collect_device: Of mmengine.
        prefix: Of mmengine.
    """

    default_prefix = "forgery"

    def __init__(
        self,
        positive: int = 1,
        level: str = "frame",
        video_key: str = "video",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix)
        if level not in ("frame", "video"):
            raise ValueError(f"level must be 'frame' or 'video', got {level!r}")
        self.positive = positive
        self.level = level
        self.video_key = video_key

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            if self.level == "video" and self.video_key not in sample:
                raise ValueError(
                    f"samples have no '{self.video_key}': put it into meta_keys of PackInputs, or "
                    "take level='frame'"
                )
            self.results.append(
                (
                    float(sample["pred_score"][self.positive]),
                    int(sample["gt_label"].item() == self.positive),
                    sample.get(self.video_key),
                )
            )

    def compute_metrics(self, results: list[tuple[float, int, Any]]) -> dict[str, float]:
        if self.level == "video":
            videos: dict[Any, list[tuple[float, int]]] = {}
            for score, label, video in results:
                videos.setdefault(video, []).append((score, label))
            pairs = [(np.mean([s for s, _ in v]), v[0][1]) for v in videos.values()]
        else:
            pairs = [(score, label) for score, label, _ in results]
        scores, labels = zip(*pairs)
        if len(set(labels)) == 1:
            warnings.warn(
                "there is one class only, so neither AUC nor EER is defined", stacklevel=2
            )
        return {"auc": roc_auc(scores, labels), "eer": equal_error_rate(scores, labels)}
