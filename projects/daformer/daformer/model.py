"""A segmentor that adapts itself to images without labels, as mmengine trains it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import MomentumAnnealingEMA
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder, SegDataPreProcessor
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor, nn

from mmeffvit.registry import MODELS
from mmeffvit.segmentation.daformer import DAFormerHead
from projects.daformer.daformer.feature_distance import feature_distance, thing_cells
from projects.daformer.daformer.self_training import (
    Augmentation,
    choose_classes,
    class_mask,
    pseudo_labels,
)

#: modules by whose chance a teacher must not be led
_CHANCE = ("DropPath", "StochasticDepth")


@MODELS.register_module()
class DomainPreprocessor(SegDataPreProcessor):
    """mmseg's, for both halves of a batch of `DomainPairs`; other batches are mmseg's own."""

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Dicts by domain of ``inputs`` and ``data_samples``, under these two names."""
        if "source" not in data:
            return super().forward(data, training)
        forward = super().forward
        done = {name: forward(half, training) for name, half in data.items()}
        return {
            key: {name: half[key] for name, half in done.items()}
            for key in ("inputs", "data_samples")
        }


@MODELS.register_module()
class DAFormer(EncoderDecoder):
    """Unsupervised domain adaptation (arXiv 2111.14887), for images with labels and others without.

    The segmentor itself is the student: configs, weights and swaps of its backbone are those of
    mmseg's `EncoderDecoder`, which its weights load into as well. Beside it are a teacher, the
    moving average of its weights, and its backbone as training began.

    The loss is the sum of three: cross entropy of the source; the distance of the features of
    things to those of the backbone as it began; and cross entropy of target images into which
    pieces of source images are pasted, with the teacher's labels.

    Args:
        backbone: As in mmseg.
        decode_head: A `DAFormerHead`, which counts pixels by their weights.
        momentum: Of the teacher, 1 - alpha; larger in the first steps (1 / (step + 1)).
        threshold: See `pseudo_labels`.
        ignore_top: See `pseudo_labels`.
        ignore_bottom: See `pseudo_labels`.
        distance: ``weight``, ``thing_classes``, and maybe ``level`` (index of the backbone's map,
            the last by default) and ``min_share`` (see `downscaled_labels`); None does without.
        augmentation: Options of `Augmentation`.
        neck: As in mmseg.
        train_cfg: As in mmseg.
        test_cfg: As in mmseg.
        data_preprocessor: Config of a `DomainPreprocessor`.
        pretrained: As in mmseg.
        init_cfg: As in mmseg.

    Raises:
        TypeError: The head is another, or the preprocessor is.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        momentum: float = 0.001,
        threshold: float = 0.968,
        ignore_top: int = 0,
        ignore_bottom: int = 0,
        distance: Mapping[str, Any] | None = None,
        augmentation: Mapping[str, Any] | None = None,
        neck: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ):
        parts = {
            "backbone": backbone,
            "decode_head": decode_head,
            "neck": neck,
            "train_cfg": train_cfg,
            "test_cfg": test_cfg,
            "pretrained": pretrained,
            "data_preprocessor": data_preprocessor,
        }
        # the same parts in the same order: buffers are matched by their places
        teacher = EncoderDecoder(**copy.deepcopy(parts))
        super().__init__(**parts, init_cfg=init_cfg)
        if not isinstance(self.decode_head, DAFormerHead):
            raise TypeError(
                f"{type(self.decode_head).__name__} knows no weights of pixels; decode_head must "
                "be a DAFormerHead"
            )
        if not isinstance(self.data_preprocessor, DomainPreprocessor):
            raise TypeError(
                "data_preprocessor must be a mmeffvit.DomainPreprocessor, got "
                f"{type(self.data_preprocessor).__name__}"
            )
        # gamma 1: the first update copies, that of step t counts 1 / (t + 1) at least
        self.teacher = MomentumAnnealingEMA(teacher, momentum=momentum, gamma=1)
        self.start = None
        if distance is not None:
            self.start = copy.deepcopy(self.backbone).requires_grad_(False)
            self.start.is_init = True  # it gets the weights that the student starts with
        self.distance = {"level": -1, "min_share": 0.75, **(distance or {})}
        self.labelling = {
            "threshold": threshold,
            "ignore_top": ignore_top,
            "ignore_bottom": ignore_bottom,
        }
        self.augment = Augmentation(**(augmentation or {}))

    def train(self, mode: bool = True) -> DAFormer:
        """The teacher's norms learn as the student's, but nothing of it is dropped by chance."""
        super().train(mode)
        for module in self.teacher.modules():
            by_chance = isinstance(module, nn.modules.dropout._DropoutNd)
            if by_chance or type(module).__name__ in _CHANCE:
                module.eval()
        if self.start is not None:
            self.start.eval()
        return self

    def loss(
        self, inputs: Mapping[str, Tensor], data_samples: Mapping[str, Sequence[SegDataSample]]
    ) -> dict[str, Tensor]:
        """Losses of a batch of pairs.

        Args:
            inputs: Images (B, 3, H, W) of ``source`` and ``target``, all of one size.
            data_samples: Samples of both, of which the source's have labels.
        """
        self._keep_up()
        images, samples = inputs["source"], data_samples["source"]
        labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
        features = self.backbone(images)
        maps = self.neck(features) if self.with_neck else features
        losses = self._decode_head_forward_train(maps, samples)
        if self.start is not None:
            losses["loss_distance"] = self._distance(images, features, labels)
        mixed, samples = self._mixed(images, labels, inputs["target"])
        found = self._decode_head_forward_train(self.extract_feat(mixed), samples)
        return {**losses, **add_prefix(found, "mix")}

    @torch.no_grad()
    def _keep_up(self) -> None:
        """Before a step: the teacher follows, and the first time all weights are there to copy."""
        if self.start is not None and self.teacher.steps == 0:
            self.start.load_state_dict(self.backbone.state_dict())
        self.teacher.update_parameters(self)

    def _distance(self, images: Tensor, features: Sequence[Tensor], labels: Tensor) -> Tensor:
        level = self.distance["level"]
        with torch.no_grad():
            begun = self.start(images)[level]
        cells = thing_cells(
            labels,
            begun.shape[-2:],
            self.num_classes,
            self.distance["thing_classes"],
            self.distance["min_share"],
            self.decode_head.ignore_index,
        )
        return self.distance["weight"] * feature_distance(features[level], begun, cells)

    @torch.no_grad()
    def _mixed(
        self, source: Tensor, labels: Tensor, target: Tensor
    ) -> tuple[Tensor, list[SegDataSample]]:
        """Target images with pieces of source images, and samples with labels and weights."""
        logits = resize(
            self.teacher.module(target, mode="tensor"),
            target.shape[-2:],
            mode="bilinear",
            align_corners=self.align_corners,
        )
        guessed, weights = pseudo_labels(logits, **self.labelling)
        pasted = class_mask(labels, choose_classes(labels))
        images = torch.where(pasted[:, None], source, target)
        images = self.augment(images, self.data_preprocessor.mean, self.data_preprocessor.std)
        guessed = torch.where(pasted, labels, guessed)
        weights = torch.where(pasted, torch.ones_like(weights), weights)
        samples = [
            SegDataSample(gt_sem_seg=PixelData(data=own), seg_weight=PixelData(data=weight))
            for own, weight in zip(guessed[:, None], weights[:, None])
        ]
        return images, samples
