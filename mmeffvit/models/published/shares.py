"""Families all of whose files are in a file share, without addresses of their own."""

from collections.abc import Mapping

from mmeffvit.models.weights import NO_LICENCE, WeightsFile


def _classifiers(
    family: str, licence: str, accuracies: Mapping[str, float]
) -> tuple[WeightsFile, ...]:
    home = {"secvit": "qhfan/SecViT", "ssvit": "qhfan/SSViT", "crossformer": "cheerss/CrossFormer"}
    return tuple(
        WeightsFile(
            f"{family}-{variant}",
            "in1k",
            "ImageNet-1K classifier",
            licence,
            share=f"links in the README of github.com/{home[family]}",
            figures={"top-1": accuracy},
        )
        for variant, accuracy in accuracies.items()
    )


SECVIT = _classifiers("secvit", "MIT", {"tiny": 82.6, "small": 84.2, "base": 85.0, "large": 85.6})
SSVIT = _classifiers("ssvit", "MIT", {"tiny": 83.0, "small": 84.4, "base": 85.3, "large": 85.7})

#: tag, task, config with its letter, and the figures by variant
_CROSSFORMER = (
    (
        "retinanet-1x",
        "RetinaNet 1x, COCO",
        "retinanet_crossformer-{}_fpn_1x_coco",
        {"small": {"box AP": 44.4}, "base": {"box AP": 46.2}},
    ),
    (
        "mask-rcnn-1x",
        "Mask R-CNN 1x, COCO",
        "mask-rcnn_crossformer-{}_fpn_1x_coco",
        {
            "small": {"box AP": 45.4, "mask AP": 41.4},
            "base": {"box AP": 47.2, "mask AP": 42.7},
        },
    ),
    (
        "fpn",
        "Semantic FPN 80k, ADE20K",
        "fpn_crossformer-{}_8xb4-80k_ade20k-512x512",
        {"small": {"mIoU": 46.4}, "base": {"mIoU": 48.0}, "large": {"mIoU": 49.1}},
    ),
    (
        "upernet",
        "UPerNet 160k, ADE20K",
        "upernet_crossformer-{}_8xb2-160k_ade20k-512x512",
        {"small": {"mIoU": 47.6}, "base": {"mIoU": 49.7}, "large": {"mIoU": 50.4}},
    ),
)
CROSSFORMER = (
    *_classifiers(
        "crossformer",
        "MIT",
        {
            "tiny": 81.5,
            "small": 82.5,
            "base": 83.4,
            "large": 84.0,
            "plus-small": 83.2,
            "plus-base": 84.2,
            "plus-large": 84.7,
        },
    ),
    *(
        WeightsFile(
            f"crossformer-{variant}",
            tag,
            task,
            "MIT",
            share="links in the READMEs of github.com/cheerss/CrossFormer",
            figures=values,
            config=f"crossformer/{config.format(variant[0])}.py",
        )
        for tag, task, config, figures in _CROSSFORMER
        for variant, values in figures.items()
    ),
)

_ROOMS = "drive.google.com/drive/folders/13VF0-B6165XALgJmocqbZyzU5Dzs1dD4"
CONDAFORMER = tuple(
    WeightsFile(
        f"condaformer-{variant}",
        "segmentor",
        f"{name} segmentation",
        NO_LICENCE,
        share=f"{variant}.pth in the folder {_ROOMS}",
        config=f"condaformer/{config}.py",
    )
    for variant, name, config in (
        ("s3dis", "S3DIS", "condaformer-s_2xb4-3000e_s3dis-seg"),
        ("scannet", "ScanNet", "condaformer_4xb3-900e_scannet-seg"),
        ("scannet200", "ScanNet200", "condaformer_4xb3-900e_scannet200-seg"),
    )
)
