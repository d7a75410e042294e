"""RAVLT: classifiers, detectors and segmentors of the authors, under the keys of mmdet 2.11 and
mmseg 0.13, in which the backbone is called GLTA."""

from collections.abc import Iterator

from mmeffvit.models.weights import WeightsFile

_REPOSITORY = "aldjalkdf/RAVLT"
_AP = ("box AP", "mask AP")
#: file, tag, task, config, names of figures, and the figures by letter
_FILES = (
    (
        "RAVLT_{upper}.pth",
        "in1k",
        "ImageNet-1K classifier",
        "",
        ("top-1",),
        {"t": (82.8,), "s": (84.4,), "b": (85.5,), "l": (85.8,)},
    ),
    (
        "retinanet_{letter}_1x_12_epoch.pth",
        "retinanet-1x",
        "RetinaNet 1x, COCO",
        "ravlt/retinanet_ravlt-{letter}_fpn_1x_coco.py",
        _AP[:1],
        {"t": (45.9,), "s": (48.3,), "b": (49.8,), "l": (50.9,)},
    ),
    (
        "maskrcnn_{letter}_1x_12_epoch.pth",
        "mask-rcnn-1x",
        "Mask R-CNN 1x, COCO",
        "ravlt/mask-rcnn_ravlt-{letter}_fpn_1x_coco.py",
        _AP,
        {"t": (47.3, 42.7), "s": (49.8, 44.6), "b": (51.2, 45.7), "l": (52.3, 46.4)},
    ),
    (
        "maskrcnn_{letter}_3x_36_epoch.pth",
        "mask-rcnn-3x",
        "Mask R-CNN 3x, COCO",
        "ravlt/mask-rcnn_ravlt-{letter}_fpn_ms-3x_coco.py",
        _AP,
        {"s": (51.4, 45.5), "b": (52.7, 46.4), "l": (53.6, 47.3)},
    ),
    (
        "Casmaskrcnn_{letter}_3x_36_epoch.pth",
        "cascade-mask-rcnn-3x",
        "Cascade Mask R-CNN 3x, COCO",
        "ravlt/cascade-mask-rcnn_ravlt-{letter}_fpn_ms-3x_coco.py",
        _AP,
        {"s": (54.2, 46.8), "b": (55.3, 47.7), "l": (55.6, 48.0)},
    ),
    (
        "fpn_{letter}_1x.pth",
        "fpn",
        "Semantic FPN 80k, ADE20K",
        "ravlt/fpn_ravlt-{letter}_8xb2-80k_ade20k-512x512.py",
        ("mIoU",),
        {"t": (47.9,), "s": (49.5,), "b": (51.9,), "l": (52.6,)},
    ),
    (
        "uper_{letter}_2x.pth",
        "upernet",
        "UPerNet 160k, ADE20K",
        "ravlt/upernet_ravlt-{letter}_8xb2-160k_ade20k-512x512.py",
        ("mIoU",),
        {"s": (50.7,), "b": (52.5,), "l": (53.2,)},
    ),
)
_VARIANTS = {"t": "tiny", "s": "small", "b": "base", "l": "large"}
#: file -> bytes, and the start of the SHA-256
_KNOWN = {
    "RAVLT_B.pth": (579_479_431, "140f76eba46f1171"),
    "Casmaskrcnn_s_3x_36_epoch.pth": (985_209_136, "49d8ad1ad8fb39df"),
}


def _weights() -> Iterator[WeightsFile]:
    for file, tag, task, config, names, figures in _FILES:
        for letter, values in figures.items():
            path = file.format(letter=letter, upper=letter.upper())
            size, sha256 = _KNOWN.get(path, (None, ""))
            yield WeightsFile(
                f"ravlt-{_VARIANTS[letter]}",
                tag,
                task,
                licence="MIT (the card of the files; the code states none)",
                hub=(_REPOSITORY, path),
                size=size,
                sha256=sha256,
                figures=dict(zip(names, values)),
                config=config.format(letter=letter),
            )


WEIGHTS = tuple(_weights())
