"""Tiny data sets of every layout, whose labels can be told from what is in their files.

Red things are of the first class and blue ones of the second: whatever a data set calls them can
be compared with the pixels.
"""

import json
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from mmeffvit.engine.data import iter_datasets
from tests.datasets.points.test_sweep_files import CALIBRATION

RED, BLUE, GREEN, GREY = (220, 30, 30), (30, 30, 220), (30, 220, 30), (120, 120, 120)
#: height and width, of all images
SIZE = (48, 64)
#: x, y, width, height of the first and of the second object
BOXES = ((4, 6, 20, 16), (34, 20, 24, 18))


def paint(path, boxes, colours):
    pixels = np.full((*SIZE, 3), GREY, np.uint8)
    for (x, y, w, h), colour in zip(boxes, colours):
        pixels[y : y + h, x : x + w] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


# -- writing ---------------------------------------------------------------------------------------


def write_coco(root):
    for split, number in (("train", 4), ("val", 2)):
        document = {"images": [], "annotations": []}
        for image in range(1, number + 1):
            name = f"{image:03d}.jpg"
            paint(root / split / name, BOXES, (RED, BLUE))
            document["images"].append(
                {"id": image, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
            )
            for category, (x, y, w, h) in zip((3, 7), BOXES):
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                document["annotations"].append(
                    {
                        "id": len(document["annotations"]) + 1,
                        "image_id": image,
                        "category_id": category,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                        "segmentation": [polygon],
                    }
                )
        document["categories"] = [{"id": 3, "name": "box"}, {"id": 7, "name": "disc"}]
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(document))


def write_label_maps(root):
    for split, number in (("train", 4), ("val", 2)):
        for image in range(number):
            paint(root / "images" / split / f"{image}.jpg", BOXES, (RED, BLUE))
            labels = np.zeros(SIZE, np.uint8)
            for label, (x, y, w, h) in zip((1, 2), BOXES):
                labels[y : y + h, x : x + w] = label
            path = root / "labels" / split / f"{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels).save(path)


def write_folders(root):
    for split, number in (("train", 2), ("val", 1)):
        for name, colour in (("apple", RED), ("berry", BLUE), ("cress", GREEN)):
            for image in range(number):
                paint(root / split / name / f"{image}.jpg", ((0, 0, SIZE[1], SIZE[0]),), (colour,))


# a car, a pedestrian and a cyclist, told apart by their lengths
KITTI_LABELS = """Car 0.00 0 0 100 100 200 160 1.5 1.8 4.2 2.0 1.6 19.7 -1.5707963
Pedestrian 0.00 0 0 100 100 120 140 1.7 0.6 0.8 0.0 1.6 9.7 0.3
Cyclist 0.00 0 0 100 100 120 140 1.7 0.6 1.8 6.0 1.6 9.7 3.0
"""
LENGTHS = {"Car": 4.2, "Pedestrian": 0.8, "Cyclist": 1.8}


def sweep(columns=4, number=600, seed=0):
    """(N, columns) float32: x, y, z, intensity, and a ring or the like."""
    rng = np.random.default_rng(seed)
    points = rng.random((number, columns)) * ((40, 30, 3, 1, 8, 8)[:columns])
    return (points - ((0, 15, 1.7, 0, 0, 0)[:columns])).astype(np.float32)


def write_kitti(root):
    for folder in ("ImageSets", "training/velodyne", "training/label_2", "training/calib"):
        (root / folder).mkdir(parents=True)
    for split, names in (("train", ("000000", "000001", "000002")), ("val", ("000003",))):
        (root / f"ImageSets/{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            sweep(seed=int(name)).tofile(root / f"training/velodyne/{name}.bin")
            (root / f"training/label_2/{name}.txt").write_text(KITTI_LABELS)
            (root / f"training/calib/{name}.txt").write_text(CALIBRATION)


def write_waymo(root):
    (root / "training/velodyne").mkdir(parents=True)
    categories = {"Car": 2, "Pedestrian": 0, "Cyclist": 1}
    for split, numbers in (("train", (0, 1, 2)), ("val", (3,))):
        entries = []
        for number in numbers:
            sweep(6, seed=number).tofile(root / f"training/velodyne/{number}.bin")
            instances = [
                {"bbox_3d": [9.0, 1, -1, length, 1, 1.5, 0.1], "bbox_label_3d": categories[name]}
                for name, length in LENGTHS.items()
            ]
            entries.append(
                {"lidar_points": {"lidar_path": f"{number}.bin"}, "instances": instances}
            )
        document = {"metainfo": {"categories": categories}, "data_list": entries}
        (root / f"{split}.json").write_text(json.dumps(document))


def make_room(seed=0, number=800):
    """A floor, class 0, and what stands on it, class 1."""
    rng = np.random.default_rng(seed)
    coord = rng.random((number, 3)) * (4, 3, 1) + (0, 0, 0.2)
    labels = (np.arange(number) >= number // 2).astype(np.int64)
    coord[labels == 0, 2] = 0
    return {
        "coord": coord,
        "color": rng.integers(0, 256, (number, 3)).astype(np.uint8),
        "semantic_gt": labels[:, None],
    }


def write_rooms(root):
    for seed, name in enumerate(("train/a.pth", "train/b.pth", "val/c.pth")):
        (root / name).parent.mkdir(exist_ok=True)
        torch.save(make_room(seed), root / name)


# -- configs ---------------------------------------------------------------------------------------


def config(scope, train, val, model, evaluator=None):
    return Config(
        {
            "default_scope": scope,
            "model": model,
            "train_dataloader": {"dataset": train},
            "val_dataloader": {"dataset": {**val, "test_mode": True}},
            "val_evaluator": evaluator or {},
        }
    )


def coco_config(root):
    def dataset(split):
        return {
            "type": "CocoDataset",
            "data_root": str(root),
            "metainfo": {"classes": ("box", "disc")},
            "ann_file": f"annotations/{split}.json",
            "data_prefix": {"img": f"{split}/"},
            "pipeline": [
                {"type": "LoadImageFromFile"},
                {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
            ],
        }

    model = {
        "type": "MaskRCNN",
        "rpn_head": {"type": "RPNHead", "num_classes": 1},
        "roi_head": {
            "bbox_head": {"type": "Shared2FCBBoxHead", "num_classes": 2},
            "mask_head": {"type": "FCNMaskHead", "num_classes": 2},
        },
    }
    evaluator = {
        "type": "CocoMetric",
        "ann_file": str(root / "annotations/val.json"),
        "metric": ["bbox", "segm"],
    }
    return config("mmdet", dataset("train"), dataset("val"), model, evaluator)


def label_map_config(root):
    def dataset(split):
        return {
            "type": "BaseSegDataset",
            "data_root": str(root),
            "metainfo": {"classes": ("ground", "red", "blue")},
            "data_prefix": {"img_path": f"images/{split}", "seg_map_path": f"labels/{split}"},
            "pipeline": [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}],
        }

    model = {
        "type": "EncoderDecoder",
        "decode_head": {"type": "FPNHead", "num_classes": 3, "loss_decode": {"type": "CE"}},
        "auxiliary_head": [{"type": "FCNHead", "num_classes": 3, "loss_decode": {"type": "CE"}}],
    }
    return config("mmseg", dataset("train"), dataset("val"), model, {"type": "IoUMetric"})


def folder_config(root):
    def dataset(split):
        return {
            "type": "CustomDataset",
            "data_root": str(root),
            "data_prefix": split,
            "pipeline": [{"type": "LoadImageFromFile"}],
        }

    head = {"type": "LinearClsHead", "num_classes": 3, "topk": (1, 3), "loss": {"type": "CE"}}
    model = {"type": "ImageClassifier", "head": head}
    evaluator = {"type": "Accuracy", "topk": (1, 3)}
    return config("mmpretrain", dataset("train"), dataset("val"), model, evaluator)


def _sweep_config(kind, root, load_dim, **files):
    def dataset(split):
        load = {"type": "mmeffvit.LoadPointsFromFile", "load_dim": load_dim, "use_dim": 4}
        return {
            "type": f"mmeffvit.{kind}SweepDataset",
            "data_root": str(root),
            "ann_file": files[split],
            "metainfo": {"classes": ("Car", "Pedestrian", "Cyclist")},
            "pipeline": [load],
        }

    layer = {"voxel_size": (0.5, 0.5, 5), "point_cloud_range": (0, -20, -3, 40, 20, 2)}
    model = {
        "type": "mmeffvit.PointDetector",
        "data_preprocessor": {"voxel_layer": layer},
        "bbox_head": {"type": "mmeffvit.CenterHead", "num_classes": 3},
    }
    metric = {"type": "mmeffvit.PointDetMetric"}
    return config("mmeffvit", dataset("train"), dataset("val"), model, metric)


def kitti_config(root):
    return _sweep_config("Kitti", root, 4, train="ImageSets/train.txt", val="ImageSets/val.txt")


def waymo_config(root):
    return _sweep_config("Waymo", root, 6, train="train.json", val="val.json")


def room_config(root):
    def dataset(split):
        return {
            "type": "mmeffvit.RoomDataset",
            "data_root": str(root),
            "folders": [split],
            "metainfo": {"classes": ("floor", "thing")},
            "pipeline": [{"type": "mmeffvit.LoadRoomFromFile"}],
        }

    head = {"type": "mmeffvit.PointSegHead", "num_classes": 2}
    model = {"type": "mmeffvit.PointSegmentor", "decode_head": head}
    return config(
        "mmeffvit", dataset("train"), dataset("val"), model, {"type": "mmeffvit.PointSegMetric"}
    )


LAYOUTS = {
    "coco": (write_coco, coco_config),
    "label maps": (write_label_maps, label_map_config),
    "folders": (write_folders, folder_config),
    "kitti": (write_kitti, kitti_config),
    "waymo": (write_waymo, waymo_config),
    "rooms": (write_rooms, room_config),
}

# -- truth -----------------------------------------------------------------------------------------


def wrong_labels(layout, cfg):
    """Load every sample that is trained on; what is called by a name that its data belies."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        with DATASETS.switch_scope_and_registry(None) as registry:
            # serialising collects garbage each time
            (first, *_) = iter_datasets(cfg.train_dataloader.dataset)
            dataset = registry.build({**first, "serialize_data": False})
        assert len(dataset) > 0
        samples = [dataset[index] for index in range(len(dataset))]
    classes = dataset.metainfo["classes"]
    return [text for sample in samples for text in _TRUTHS[layout](sample, classes)]


def _coco(sample, classes):
    assert len(sample["gt_bboxes_labels"]) == len(sample["gt_masks"])
    for label, box, ignored in zip(
        sample["gt_bboxes_labels"], sample["gt_bboxes"].tensor, sample["gt_ignore_flags"]
    ):
        x, y = (box.numpy().reshape(2, 2).mean(0)).astype(int)
        pixel = sample["img"][y, x, ::-1].astype(int)  # loaded as BGR
        name = "box" if pixel[0] > pixel[2] + 50 else "disc" if pixel[2] > pixel[0] + 50 else "?"
        if name != classes[label] and not ignored:
            yield f"{sample['img_path']}: {name} is called {classes[label]}"


def _label_maps(sample, classes):
    pixels, labels = sample["img"][..., ::-1].astype(int), sample["gt_seg_map"]
    assert labels.shape == pixels.shape[:2]
    red = pixels[..., 0] > pixels[..., 2] + 100
    blue = pixels[..., 2] > pixels[..., 0] + 100
    for name, where in (("red", red), ("blue", blue), ("ground", ~red & ~blue)):
        own = labels[where]
        own = own[own != 255]
        right = (own == list(classes).index(name)).mean() if len(own) else 1.0
        if right < 0.9:
            yield f"{sample['seg_map_path']}: {name} is right in {right:.0%}"


def _folders(sample, classes):
    pixel = sample["img"][..., ::-1].reshape(-1, 3).mean(0)
    name = ("apple", "cress", "berry")[int(pixel.argmax())]
    if classes[sample["gt_label"]] != name:
        yield f"{sample['img_path']}: {name} is called {classes[sample['gt_label']]}"


def _sweeps(sample, classes):
    assert np.isfinite(sample["coord"]).all()
    assert np.isfinite(sample["intensity"]).all()
    if len(sample["coord"]) and np.ptp(sample["coord"][:, 2]) > 20:
        yield f"{sample['lidar_path']}: columns are mixed up"
    for box, label in zip(sample["gt_bboxes_3d"], sample["gt_labels_3d"]):
        if abs(box[3] - LENGTHS[classes[label]]) > 0.01:
            yield f"{sample['lidar_path']}: {box[3]:.1f} m are called {classes[label]}"
    if not len(sample["gt_labels_3d"]):
        yield f"{sample['lidar_path']}: its objects are lost"


def _rooms(sample, classes):
    labels, height = sample["pts_semantic_mask"], sample["coord"][:, 2]
    known = labels != 255
    floor = list(classes).index("floor")
    if not ((labels == floor) == (height < 0.1))[known].all() or not known.any():
        yield f"{sample['lidar_path']}: the floor is called something else"
    if sample["color"].max() <= 1 or sample["color"].max() > 255 or np.ptp(height) > 50:
        yield f"{sample['lidar_path']}: other units"


_TRUTHS = {
    "coco": _coco,
    "label maps": _label_maps,
    "folders": _folders,
    "kitti": _sweeps,
    "waymo": _sweeps,
    "rooms": _rooms,
}


def files(root, pattern):
    """Files of a set, sorted."""
    return sorted(Path(root).glob(pattern))
