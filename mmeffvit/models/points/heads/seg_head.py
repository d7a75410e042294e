"""The classifier of voxels of `PointSegmentor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.registry import MODELS
from mmeffvit.structures import PointDataSample


@MODELS.register_module()
class PointSegHead(BaseModule):
    """A linear classifier of voxels, with the interface of mmdet3d's MinkUNetHead.

    Args:
        channels: Channels of the voxels' features.
        num_classes: Number of classes.
        ignore_index: Label of voxels that do not count.
        dropout_ratio: Of features before the classifier.
        class_weight: Weight of each class in the cross-entropy; the loss is divided by the sum of
            the weights of the voxels that count.
        loss_decode: Config of a loss ``loss(logits, labels, ignore_index=)`` such as
            ``mmdet.CrossEntropyLoss``; None takes cross-entropy, the mean over all voxels that
            count.
        init_cfg: Of mmengine; the classifier starts as torch's linear layers do.

    Raises:
        ValueError: There is not one weight per class, or there are weights beside `loss_decode`.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        ignore_index: int = 255,
        dropout_ratio: float = 0.0,
        class_weight: Sequence[float] | None = None,
        loss_decode: Mapping[str, Any] | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        self.channels = channels
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        if class_weight is not None and loss_decode is not None:
            raise ValueError("class_weight is of the default loss; loss_decode has its own")
        if class_weight is not None and len(class_weight) != num_classes:
            raise ValueError(
                f"class_weight needs one entry for each of {num_classes} classes, got "
                f"{len(class_weight)}"
            )
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weight, persistent=False)
        if isinstance(loss_decode, Mapping):
            loss_decode = MODELS.build(loss_decode)
        self.loss_decode = loss_decode
        self.dropout = nn.Dropout(dropout_ratio)
        self.conv_seg = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(M, channels) to logits (M, num_classes)."""
        return self.conv_seg(self.dropout(x))

    def loss(
        self, x: Tensor, data_samples: Sequence[PointDataSample], train_cfg: Any = None
    ) -> dict[str, Tensor]:
        """``loss_sem_seg`` of all voxels of a batch.

        Args:
            x: (M, channels).
            data_samples: With ``gt_pts_seg.voxel_semantic_mask``.
            train_cfg: Not used; mmdet3d gives it.

        Raises:
            ValueError: There are not as many labels as voxels, or a label is of no class.
        """
        logits = self(x)
        labels = torch.cat([sample.gt_pts_seg.voxel_semantic_mask for sample in data_samples])
        labels = labels.long()
        if len(labels) != len(logits):
            raise ValueError(f"{len(logits)} voxels have {len(labels)} labels")
        counts = labels != self.ignore_index
        wrong = counts & ((labels < 0) | (labels >= self.num_classes))
        if bool(wrong.any()):
            raise ValueError(
                f"labels must be in 0..{self.num_classes - 1}, or {self.ignore_index} for what "
                f"does not count, got {labels[wrong].unique().tolist()}"
            )
        if self.loss_decode is not None:
            loss = self.loss_decode(logits, labels, ignore_index=self.ignore_index)
        else:
            weight = self.class_weight
            loss = F.cross_entropy(
                logits.float(), labels, weight, ignore_index=self.ignore_index, reduction="sum"
            )
            total = counts.float().sum() if weight is None else weight[labels[counts]].sum()
            # a batch in which nothing counts has no loss, not NaN
            loss = loss / total.clamp_min(1e-6)
        return {"loss_sem_seg": loss}

    def predict(self, x: Tensor, data_samples: Sequence[PointDataSample]) -> list[Tensor]:
        """Logits (R_i, num_classes) of the raw points of every sample.

        Args:
            x: (M, channels).
            data_samples: With ``batch_idx``, and ``point2voxel_map`` where points and voxels
                differ.
        """
        logits = self(x)
        batch = torch.cat([sample.batch_idx for sample in data_samples])
        results = []
        for index, sample in enumerate(data_samples):
            own = logits[batch == index]
            if "point2voxel_map" in sample:
                own = own[sample.point2voxel_map]
            results.append(own)
        return results
