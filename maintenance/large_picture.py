"""The picture of docs/predict.md: small digits in an image of 6000 x 4000 pixels, found in tiles.

    python -m maintenance.large_picture make large.png
    python tools/predict.py configs/demo/mask_rcnn_secvit_demo.py CHECKPOINT large.png \\
        --out results --tiles 1024
    python -m maintenance.large_picture draw large.png results/predictions.json picture.jpg
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as rle

from mmeffvit.demo_data.digits.images import load_scans
from mmeffvit.demo_data.digits.scenes import darken, draw_scene, field
from mmeffvit.visualization.contact_sheet import Objects, draw_objects
from mmeffvit.visualization.files import save_picture

WIDTH, HEIGHT = 6000, 4000
#: a cell has a scene of its own, with digits of 32 to 64 pixels, as in the demo's images
_CELL, _SIZES = 500, (0.064, 0.128)
#: what scores less is not drawn
_LEAST = 0.5
#: of what is drawn: the whole, and a part of it, both of this height
_SHOWN = 640
_DETAIL = (5150, 650, 5950, 1450)


def make(seed: int = 0) -> np.ndarray:
    """(4000, 6000, 3), uint8, BGR: a soft ground with some hundred digits."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: HEIGHT // 8, : WIDTH // 8].astype(np.float32) / (HEIGHT // 8)
    low, high = np.float32([40, 60, 30]), np.float32([120, 140, 150])
    ground = low + (high - low) * field(rng, y, x, kind=1)[..., None]
    ground = darken(cv2.resize(ground, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
    scans = load_scans("val")
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for top in range(0, HEIGHT, _CELL):
        for left in range(0, WIDTH, _CELL):
            place = np.s_[top : top + _CELL, left : left + _CELL]
            image[place], _ = draw_scene(
                rng,
                *scans,
                _CELL,
                _CELL,
                max_digits=5,
                with_crowd=False,
                digit_sizes=_SIZES,
                plain=True,
                ground=ground[place],
            )
    return image


def draw(image: np.ndarray, predictions: dict) -> Image.Image:
    """All that was found in the whole image, and a part of it pixel by pixel.

    Args:
        image: (H, W, 3), uint8, RGB.
        predictions: In COCO's format, of this image.
    """
    names = [category["name"] for category in predictions["categories"]]
    numbers = {category["id"]: i for i, category in enumerate(predictions["categories"])}
    found = [a for a in predictions["annotations"] if a["score"] >= _LEAST]
    boxes = np.float64([(x, y, x + w, y + h) for x, y, w, h in (a["bbox"] for a in found)])
    labels = np.array([numbers[a["category_id"]] for a in found])
    scale = _SHOWN / image.shape[0]
    frame = cv2.resize(image, _fit(image, scale), interpolation=cv2.INTER_AREA)
    for box in (boxes * scale).round().astype(int).tolist():
        cv2.rectangle(frame, box[:2], box[2:], (255, 176, 0), 1)
    x0, y0, x1, y1 = _DETAIL
    inside = np.flatnonzero(
        (boxes[:, 0] < x1) & (boxes[:, 2] > x0) & (boxes[:, 1] < y1) & (boxes[:, 3] > y0)
    )
    part = Objects(
        boxes[inside] - [x0, y0, x0, y0],
        labels[inside],
        np.array([rle.decode(found[i]["segmentation"])[y0:y1, x0:x1] > 0 for i in inside]),
        np.array([found[i]["score"] for i in inside]),
    )
    window = image[y0:y1, x0:x1]
    detail = draw_objects(window, part, names, _fit(window, _SHOWN / (y1 - y0)))
    corners = [round(value * scale) for value in _DETAIL]
    cv2.rectangle(frame, corners[:2], corners[2:], (255, 255, 255), 2)
    return Image.fromarray(np.hstack([frame, np.full((_SHOWN, 8, 3), 255, np.uint8), detail]))


def _fit(image: np.ndarray, scale: float) -> tuple[int, int]:
    return round(image.shape[1] * scale), round(image.shape[0] * scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("image", type=Path)
    drawing = commands.add_parser("draw")
    for name in ("image", "predictions", "out"):
        drawing.add_argument(name, type=Path)
    args = parser.parse_args()
    if args.command == "make":
        cv2.imwrite(str(args.image), make())
        return
    image = cv2.cvtColor(cv2.imread(str(args.image)), cv2.COLOR_BGR2RGB)
    save_picture(draw(image, json.loads(args.predictions.read_text())), args.out)


if __name__ == "__main__":
    main()
