"""Made-up folders of data as people have them, of three classes: squares, bars and posts."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("square", "bar", "post")
#: as public sets have them: with gaps
IDS = (3, 7, 20)
_SIZES = ((16, 16), (24, 8), (8, 24))
_COLOURS = ((220, 40, 40), (40, 200, 60), (50, 80, 230))


def scene(seed, side=64):
    """An image, and its objects: class, left, top, width, height."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 60, (side, side, 3), dtype=np.uint8)
    objects = []
    for i in range(2):
        kind = (seed + i) % 3
        width, height = _SIZES[kind]
        left = int(random.integers(0, side // 2 - width)) + i * side // 2
        top = int(random.integers(0, side - height))
        image[top : top + height, left : left + width] = _COLOURS[kind]
        objects.append((kind, left, top, width, height))
    return image, objects


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def coco_content(seeds, masks=False, categories=None, prefix=""):
    images, annotations = [], []
    for number, seed in enumerate(seeds):
        entry = {"id": number, "file_name": f"{prefix}{seed:03d}.png", "width": 64, "height": 64}
        images.append(entry)
        for kind, x, y, w, h in scene(seed)[1]:
            outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": IDS[kind]}
                | {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
                | {"segmentation": outline if masks else []}
            )
    if categories is None:
        categories = [{"id": i, "name": n, "supercategory": "shapes"} for i, n in zip(IDS, CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_roboflow(root: Path, masks=False, num=(6, 3, 2)):
    """COCO as Roboflow exports it: a file beside the images, a group as category 0."""
    seed = 0
    for split, count in zip(("train", "valid", "test"), num):
        seeds = range(seed, seed + count)
        seed += count
        for one in seeds:
            save(root / split / f"{one:03d}.png", scene(one)[0])
        content = coco_content(seeds, masks)
        group = {"id": 0, "name": "shapes", "supercategory": "none"}
        content["categories"].insert(0, group)
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def write_coco(root: Path, masks=True, num=(6, 3)):
    """COCO in COCO's own arrangement."""
    seed = 0
    (root / "annotations").mkdir(parents=True)
    for split, count in zip(("train2017", "val2017"), num):
        seeds = range(seed, seed + count)
        seed += count
        for one in seeds:
            save(root / split / f"{one:03d}.png", scene(one)[0])
        content = coco_content(seeds, masks)
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return root


def write_yolo(root: Path, polygons=False, num=(6, 3), names=True):
    """YOLO as ultralytics has it."""
    seed = 0
    for split, count in zip(("train", "val"), num):
        for one in range(seed, seed + count):
            image, objects = scene(one)
            save(root / f"images/{split}/{one:03d}.png", image)
            lines = []
            for kind, x, y, w, h in objects:
                corners = (x, y, x + w, y, x + w, y + h, x, y + h)
                values = corners if polygons else (x + w / 2, y + h / 2, w, h)
                lines.append(" ".join([str(kind), *(f"{v / 64:.6f}" for v in values)]))
            path = root / f"labels/{split}/{one:03d}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines))
        seed += count
    if names:
        text = "train: images/train\nval: images/val\nnames:\n"
        text += "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASSES))
        (root / "data.yaml").write_text(text)
    return root


def write_voc(root: Path, num=(6, 3)):
    """Pascal VOC, with its lists of images."""
    seed = 0
    for split, count in zip(("train", "val"), num):
        stems = []
        for one in range(seed, seed + count):
            image, objects = scene(one)
            save(root / f"JPEGImages/{one:03d}.png", image)
            parts = [
                f"<object><name>{CLASSES[k]}</name><difficult>0</difficult><bndbox>"
                f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax>"
                f"<ymax>{y + h}</ymax></bndbox></object>"
                for k, x, y, w, h in objects
            ]
            path = root / f"Annotations/{one:03d}.xml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"<annotation>{''.join(parts)}</annotation>")
            stems.append(f"{one:03d}\n")
        path = root / f"ImageSets/Main/{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(stems))
        seed += count
    return root


def label_map(seed, values=(0, 1, 2, 3)):
    """Background and three classes."""
    labels = np.full((64, 64), values[0], dtype=np.uint8)
    for kind, x, y, w, h in scene(seed)[1]:
        labels[y : y + h, x : x + w] = values[kind + 1]
    return labels


def write_label_maps(root: Path, num=(6, 3), values=(0, 1, 2, 3), names=True):
    """ADE20K's arrangement."""
    seed = 0
    for split, count in zip(("training", "validation"), num):
        for one in range(seed, seed + count):
            save(root / f"images/{split}/{one:03d}.jpg", scene(one)[0])
            save(root / f"annotations/{split}/{one:03d}.png", label_map(one, values))
        seed += count
    if names:
        (root / "classes.txt").write_text("\n".join(("background", *CLASSES)))
    return root


def write_classes(root: Path, num=(4, 2), splits=("train", "val")):
    """A folder of images per class."""
    for split, count in zip(splits, num):
        for kind, name in enumerate(CLASSES):
            for i in range(count):
                image = np.full((32, 32, 3), _COLOURS[kind], dtype=np.uint8)
                image[i : i + 8] = 0
                save(root / split / name / f"{i}.png", image)
    return root
