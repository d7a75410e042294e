"""Synthetic batches for any model of the toolboxes: noise, with every kind of annotation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor

from mmeffvit.configs import walk

_BOXES = 4
#: classes of detectors that are asked in words
TEXT = ("person", "car", "dog")


class Batches:
    """Batches as the data loader of a config would hand them to its model.

    Args:
        cfg: The config; number of classes, kinds of branches and label scales are taken from it.
        side: Height and width of the images.
        seed: Of the noise.
    """

    def __init__(self, cfg: Config, side: int = 128, seed: int = 0):
        self.cfg = cfg
        self.side = side
        self.random = np.random.default_rng(seed)
        model = cfg.model
        self.kind = str(model.type).rpartition(".")[2]
        self.num_classes = len(TEXT) if "language_model" in model else _thing_classes(model)

    def training(self) -> dict[str, Any]:
        """Two images, or what the model takes for that, with annotations."""
        if self.cfg.get("default_scope") == "mmseg":
            return _collate([self._segmentation_sample() for _ in range(2)])
        if self.cfg.get("default_scope") == "mmpretrain":
            return self._pictures(2)
        if self.kind == "BaseReID":
            return self._reid()
        if self.kind == "CLRNet":
            return _collate([self._lanes() for _ in range(2)])
        if self.kind in ("SoftTeacher", "SemiBaseDetector"):
            return self._branches()
        if self.kind in ("MaskTrackRCNN", "QDTrack", "Mask2FormerVideo"):
            return _collate([self._clip(2)])
        return _collate([self._detection_sample(i) for i in range(2)])

    def testing(self) -> dict[str, Any]:
        """One image, or one frame of a video."""
        if self.cfg.get("default_scope") == "mmseg":
            return _collate([self._segmentation_sample()])
        if self.cfg.get("default_scope") == "mmpretrain":
            return self._pictures(1)
        if self.kind == "BaseReID":
            return self._reid()
        if self.kind == "CLRNet":
            return _collate([self._lanes()])
        if "tracker" in self.cfg.model or self.kind == "Mask2FormerVideo":
            return _collate([self._clip(1)])
        return _collate([self._detection_sample(0)])

    # -- one sample each ---------------------------------------------------------------------------

    def _image(self, height: int | None = None, width: int | None = None) -> Tensor:
        shape = (3, height or self.side, width or self.side)
        return torch.from_numpy(self.random.integers(0, 256, shape, dtype=np.uint8))

    def _segmentation_sample(self) -> dict[str, Any]:
        from mmseg.structures import SegDataSample

        size = (self.side, self.side)
        classes = _segmentation_classes(self.cfg.model)
        cells = self.random.integers(0, classes, (8, 8))
        labels = torch.from_numpy(np.kron(cells, np.ones((self.side // 8,) * 2, dtype=np.int64)))
        sample = SegDataSample(
            metainfo={"img_shape": size, "ori_shape": size, "pad_shape": size, "scale_factor": 1.0}
            | {"flip": False, "padding_size": [0, 0, 0, 0]}
        )
        sample.gt_sem_seg = PixelData(data=labels[None])
        return {"inputs": self._image(), "data_samples": sample}

    def _detection_sample(self, index: int) -> dict[str, Any]:
        return {"inputs": self._image(), "data_samples": self._labelled(index)}

    def _labelled(self, index: int, num_classes: int | None = None) -> BaseDataElement:
        from mmdet.structures import DetDataSample

        size = (self.side, self.side)
        sample = DetDataSample(
            metainfo={
                "img_id": index,
                "img_path": f"{index}.jpg",
                "img_shape": size,
                "ori_shape": size,
                "pad_shape": size,
                "batch_input_shape": size,
                "scale_factor": (1.0, 1.0),
                "flip": False,
                "flip_direction": None,
                "homography_matrix": np.eye(3, dtype=np.float32),
                "border": np.array([0, self.side, 0, self.side], dtype=np.float32),
                "text": TEXT,
                "custom_entities": False,
            }
        )
        sample.gt_instances = self._instances(num_classes or self.num_classes)
        sample.ignored_instances = self._instances(num_classes or self.num_classes)[:0]
        if "rpn_head" not in self.cfg.model:  # Fast R-CNN
            sample.proposals = InstanceData(
                bboxes=sample.gt_instances.bboxes.tensor + 2.0,
                scores=torch.linspace(0.9, 0.1, _BOXES),
                labels=torch.zeros(_BOXES, dtype=torch.long),
            )
        stride = _label_stride(self.cfg)
        side = self.side // stride
        labels = self.random.integers(0, _semantic_classes(self.cfg.model), (1, side, side))
        # the objects lie upon what is amorphous, as panoptic labels have it
        sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(labels))
        return sample

    def _instances(self, num_classes: int) -> InstanceData:
        from mmdet.structures.bbox import HorizontalBoxes
        from mmdet.structures.mask import BitmapMasks

        corners = self.random.integers(0, self.side // 2, (_BOXES, 2))
        sides = self.random.integers(self.side // 4, self.side // 2, (_BOXES, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1)
        masks = np.zeros((_BOXES, self.side, self.side), dtype=np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes):
            mask[top:bottom, left:right] = 1
        shapes = HorizontalBoxes(torch.from_numpy(boxes).float())
        if self.cfg.get("default_scope") == "mmrotate":
            shapes = shapes.convert_to(_box_type(self.cfg))
        instances = InstanceData(
            bboxes=shapes,
            labels=torch.from_numpy(self.random.integers(0, num_classes, _BOXES)),
            instances_ids=torch.arange(_BOXES),
        )
        if _loads_masks(self.cfg):
            instances.masks = BitmapMasks(masks, self.side, self.side)
        return instances

    def _branches(self) -> dict[str, Any]:
        """Labelled images, and the two views of unlabelled ones."""
        branches = {}
        for name in ("sup", "unsup_teacher", "unsup_student"):
            branches[name] = _collate([self._detection_sample(i) for i in range(2)])
        return {
            part: {name: branch[part] for name, branch in branches.items()}
            for part in ("inputs", "data_samples")
        }

    def _clip(self, frames: int) -> dict[str, Any]:
        from mmdet.structures import TrackDataSample

        samples = [self._labelled(i) for i in range(frames)]
        for i, sample in enumerate(samples):
            sample.set_metainfo({"frame_id": i, "ori_video_length": frames, "is_video_data": True})
            for boxes in (sample.gt_instances, sample.ignored_instances):
                boxes.bboxes = boxes.bboxes.tensor  # the preprocessor of clips leaves them alone
        clip = TrackDataSample()
        clip.video_data_samples = samples
        clip.set_metainfo({"key_frames_inds": [0], "ref_frames_inds": list(range(1, frames))})
        return {"inputs": torch.stack([self._image() for _ in range(frames)]), "data_samples": clip}

    def _pictures(self, count: int) -> dict[str, Any]:
        """Classified pictures, or as many views of each as the pipeline makes."""
        from mmpretrain.structures import DataSample

        samples = []
        for label in range(count):
            sample = DataSample(metainfo={"img_shape": (self.side,) * 2})
            sample.set_gt_score(torch.eye(self.num_classes)[label])  # of several labels
            if self.kind == "SimMIM":  # a quarter of the image, in cells of four pixels
                mask = torch.zeros(self.side // 4, self.side // 4, dtype=torch.long)
                mask[: self.side // 8, : self.side // 8] = 1
                sample.set_mask(mask)
            samples.append(sample.set_gt_label(label))
        counts = _find(self.cfg.get("train_dataloader") or {}, "num_views")
        views = sum(n if isinstance(n, int) else sum(n) for n in counts)
        pictures = [
            torch.stack([self._image() for _ in range(count)]) for _ in range(max(views, 1))
        ]
        return {"inputs": pictures if views else pictures[0], "data_samples": samples}

    def _reid(self) -> dict[str, Any]:
        """Two people twice, which triplets need, in the size that the head's pooling expects."""
        from mmdet.structures import ReIDDataSample

        samples = []
        for label in (0, 0, 1, 1):
            sample = ReIDDataSample(metainfo={"img_shape": (256, 128)})
            sample.set_gt_label(label)
            samples.append({"inputs": self._image(256, 128), "data_samples": sample})
        return _collate(samples)

    def _lanes(self) -> dict[str, Any]:
        """A lane that goes straight up, of CLRNet's 72 points on 320 x 800 pixels."""
        lines = np.full((4, 78), -1e5, dtype=np.float32)
        lines[:, :2] = (1, 0)
        lines[0, :6] = (0, 1, 0.0, 400.0, 0.5, 60)
        lines[0, 6:66] = 400.0
        sample = BaseDataElement(lines_array=lines, org_height=320, org_width=800)
        labels = torch.zeros(1, 320, 800, dtype=torch.uint8)
        sample.gt_sem_seg = PixelData(sem_seg=labels)
        return {"inputs": self._image(320, 800), "data_samples": sample}


def _collate(samples: list[dict[str, Any]]) -> dict[str, list]:
    return {key: [sample[key] for sample in samples] for key in samples[0]}


def _find(tree: Any, key: str) -> Iterator[Any]:
    skip = ("train_cfg", "test_cfg", "teacher_config", "loss_cls")
    return (value for place, value in walk(tree, skip) if place and place[-1] == key)


def _thing_classes(model: Mapping[str, Any]) -> int:
    things = [int(n) for n in (*_find(model, "num_things_classes"), *_find(model, "num_things"))]
    heads = {key: value for key, value in model.items() if key != "semantic_head"}
    return min(things or [int(n) for n in _find(heads, "num_classes")] or [2])


def _semantic_classes(model: Mapping[str, Any]) -> int:
    semantic = model.get("semantic_head") or (model.get("roi_head") or {}).get("semantic_head")
    if semantic:
        return int(semantic.get("num_classes", 2))
    things = [int(n) for n in _find(model, "num_things_classes")]
    stuff = [int(n) for n in _find(model, "num_stuff_classes")]
    return (things or [2])[0] + (stuff or [0])[0]


def _segmentation_classes(model: Mapping[str, Any]) -> int:
    heads = [model.get(key) for key in ("decode_head", "auxiliary_head") if model.get(key)]
    return min(int(n) for n in _find(heads, "num_classes"))


def _loads_masks(cfg: Config) -> bool:
    """Boxes alone for a method that is trained with them: some use masks if there are any."""
    loader = cfg.get("train_dataloader") or {}
    return any(_find(loader, "with_mask")) or any(
        "Panoptic" in str(t) for t in _find(loader, "type")
    )


def _box_type(cfg: Config) -> str:
    """Of mmrotate: the corners that are loaded ('qbox'), or what a pipeline makes of them."""
    loader = cfg.get("train_dataloader") or {}
    converted = [mapping["gt_bboxes"] for mapping in _find(loader, "box_type_mapping")]
    return (converted or [*_find(loader, "box_type")] or ["rbox"])[-1]


def _label_stride(cfg: Config) -> int:
    """Pixels per cell of semantic labels, which pipelines may shrink."""
    pipelines = _find(cfg.get("train_dataloader") or {}, "pipeline")
    scales = [
        step.get("scale_factor", 1)
        for pipeline in pipelines
        for step in pipeline
        if step.get("type") == "SegRescale"
    ]
    return round(1 / scales[0]) if scales else 1
