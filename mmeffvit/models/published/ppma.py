"""PPMA: classifiers, and detectors and segmentors under the keys of mmdet 3 and mmseg 1."""

from mmeffvit.models.weights import WeightsFile

_REPOSITORY = "ZhongchenZhao/PPMA"
_LICENCE = "Apache-2.0"


def _dense(variant: str, tag: str, task: str, path: str, config: str, **figures) -> WeightsFile:
    return WeightsFile(
        f"ppma-{variant}",
        tag,
        task,
        _LICENCE,
        hub=(_REPOSITORY, path),
        config=f"ppma/{config}",
        figures={name.replace("_", " "): value for name, value in figures.items()},
    )


WEIGHTS = (
    *(
        WeightsFile(
            f"ppma-{variant}",
            "in1k",
            "ImageNet-1K classifier",
            _LICENCE,
            hub=(_REPOSITORY, f"*classification/{folder}/best.pth"),
            figures={"top-1": accuracy},
        )
        for variant, folder, accuracy in (
            ("tiny", "PPMA_T_202502251000", 82.6),
            ("small", "PPMA_S_202504021000", 84.2),
            ("base", "PPMA_B_202504101400", 85.0),
        )
    ),
    *(
        _dense(
            variant,
            "mask-rcnn-1x",
            "Mask R-CNN 1x, COCO",
            f"*detection/mask_rcnn_ppma_{variant}_fpn_1x_coco/epoch_12.pth",
            f"mask-rcnn_ppma-{variant[0]}_fpn_1x_coco.py",
            box_AP=box,
            mask_AP=mask,
        )
        for variant, box, mask in (
            ("tiny", 47.1, 42.4),
            ("small", 49.2, 43.8),
            ("base", 51.1, 45.5),
        )
    ),
    _dense(
        "base",
        "mask-rcnn-3x",
        "Mask R-CNN 3x, COCO",
        "*detection/mask_rcnn_ppma_base_fpn*3x_coco/*.pth",
        "mask-rcnn_ppma-b_fpn_ms-3x_coco.py",
        box_AP=52.6,
        mask_AP=46.3,
    ),
    *(
        _dense(
            variant,
            "upernet",
            "UPerNet 160k, ADE20K",
            f"*segmentation/upernet_ppma_{variant}*_ade20k_ss/iter_160000.pth",
            f"upernet_ppma-{variant[0]}_8xb2-160k_ade20k-512x512.py",
            mIoU=miou,
        )
        for variant, miou in (("tiny", 48.7), ("small", 51.1), ("base", 52.3))
    ),
)
