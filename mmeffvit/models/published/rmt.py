"""RMT: the authors' classifiers are in a file share; others have trained the network again."""

from mmeffvit.models.weights import NO_LICENCE, WeightsFile

_PPMA = "ZhongchenZhao/PPMA"
_DREAMCLEAR = "shallowdream204/DreamClear"
_APACHE = "Apache-2.0 (the card of the files; RMT's authors state none)"
_BY_PPMA = "trained again by the authors of PPMA"
_CLASSIFIER = "ImageNet-1K classifier"

WEIGHTS = (
    *(
        WeightsFile(
            f"rmt-{variant}",
            "in1k",
            _CLASSIFIER,
            _APACHE,
            hub=(_PPMA, f"*classification/{folder}/best.pth"),
            figures={"top-1": accuracy},
            note=f"{_BY_PPMA}; the accuracy is that of their averaged weights",
        )
        for variant, folder, accuracy in (
            ("tiny", "RMT_T_202502212040", 82.31),
            ("small", "RMT_S_202504011200", 83.95),
            ("base", "RMT_B_202504071200", 84.91),
        )
    ),
    *(
        WeightsFile(
            f"rmt-{variant}",
            "in1k-authors",
            _CLASSIFIER,
            NO_LICENCE,
            share="links in the README of github.com/qhfan/RMT",
            figures={"top-1": accuracy},
        )
        for variant, accuracy in (
            ("tiny", 82.4),
            ("small", 84.1),
            ("base", 85.0),
            ("large", 85.5),
        )
    ),
    *(
        WeightsFile(
            f"rmt-{variant}",
            "mask-rcnn-1x",
            "Mask R-CNN 1x, COCO",
            _APACHE,
            hub=(_PPMA, f"*detection/mask_rcnn_rmt_{variant}_fpn_1x_coco/epoch_12.pth"),
            config=f"rmt/mask-rcnn_rmt-{variant[0]}_fpn_1x_coco.py",
            note=f"{_BY_PPMA}, under mmdet 3's keys; which accuracy these reach is not stated",
        )
        for variant in ("tiny", "small", "base")
    ),
    WeightsFile(
        "rmt-small",
        "mask-rcnn-1x-dreamclear",
        "Mask R-CNN 1x, COCO",
        _APACHE,
        hub=(_DREAMCLEAR, "rmt_maskrcnn_s_1x.pth"),
        size=547_634_072,
        sha256="de320136f611f1dc",
        config="rmt/mask-rcnn_rmt-s_fpn_1x_coco.py",
        note="copied by the authors of DreamClear; a config is pickled beside the weights",
    ),
    WeightsFile(
        "rmt-small",
        "upernet",
        "UPerNet 160k, ADE20K",
        _APACHE,
        hub=(_DREAMCLEAR, "rmt_uper_s_2x.pth"),
        size=669_590_382,
        sha256="25be07cbeac37fc5",
        figures={"mIoU": 49.8},
        config="rmt/upernet_rmt-s_8xb2-160k_ade20k-512x512.py",
        note="copied by the authors of DreamClear; the figure is that of RMT's authors",
    ),
)
