"""UniFormer: a part of the authors' files is on the Hugging Face hub, the rest in a file share."""

from mmeffvit.models.weights import WeightsFile

_LICENCE = "MIT (the cards of the files; the code is under Apache-2.0)"
_SHARE = "links in the READMEs of github.com/Sense-X/UniFormer"
_CLASSIFIER = "ImageNet-1K classifier"

#: tag, task, config with its letter, and the figures of S and B; all in the share
_DENSE = (
    (
        "mask-rcnn-1x",
        "Mask R-CNN 1x, COCO",
        "mask-rcnn_uniformer-{}-h14_fpn_1x_coco",
        ({"box AP": 45.6, "mask AP": 41.6}, {"box AP": 47.4, "mask AP": 43.1}),
    ),
    (
        "cascade-mask-rcnn-3x",
        "Cascade Mask R-CNN 3x, COCO",
        "cascade-mask-rcnn_uniformer-{}-h14_fpn_ms-3x_coco",
        ({"box AP": 52.1, "mask AP": 45.2}, {"box AP": 53.8, "mask AP": 46.4}),
    ),
    (
        "fpn",
        "Semantic FPN 80k, ADE20K",
        "fpn_uniformer-{}_8xb4-80k_ade20k-512x512",
        ({"mIoU": 46.6}, {"mIoU": 48.0}),
    ),
    (
        "upernet",
        "UPerNet 160k, ADE20K",
        "upernet_uniformer-{}_8xb2-160k_ade20k-512x512",
        ({"mIoU": 47.6}, {"mIoU": 50.0}),
    ),
)

WEIGHTS = (
    WeightsFile(
        "uniformer-small",
        "in1k",
        _CLASSIFIER,
        _LICENCE,
        hub=("Andy1621/uniformer", "uniformer_small_in1k.pth"),
        size=86_314_461,
        sha256="fd192c31f8bd7767",
        figures={"top-1": 82.9},
    ),
    WeightsFile(
        "uniformer-small-plus",
        "in1k",
        _CLASSIFIER,
        _LICENCE,
        hub=("Sense-X/uniformer_image", "uniformer_small_plus_in1k.pth"),
        sha256="53bc55180eb750f0",
        figures={"top-1": 83.4},
    ),
    WeightsFile(
        "uniformer-base",
        "in1k",
        _CLASSIFIER,
        _LICENCE,
        hub=("Sense-X/uniformer_image", "uniformer_base_in1k.pth"),
        size=199_378_501,
        sha256="82c01015818cb897",
        figures={"top-1": 83.8},
    ),
    WeightsFile(
        "uniformer-small",
        "mask-rcnn-3x",
        "Mask R-CNN 3x, COCO",
        _LICENCE,
        hub=("Andy1621/uniformer", "mask_rcnn_3x_ms_hybrid_small.pth"),
        size=164_955_531,
        sha256="ca5469b0889f10c8",
        figures={"box AP": 48.2, "mask AP": 43.4},
        config="uniformer/mask-rcnn_uniformer-s-h14_fpn_ms-3x_coco.py",
    ),
    WeightsFile(
        "uniformer-base",
        "mask-rcnn-3x",
        "Mask R-CNN 3x, COCO",
        _LICENCE,
        share=_SHARE,
        figures={"box AP": 50.3, "mask AP": 44.8},
        config="uniformer/mask-rcnn_uniformer-b-h14_fpn_ms-3x_coco.py",
    ),
    *(
        WeightsFile(
            f"uniformer-{variant}",
            tag,
            task,
            _LICENCE,
            share=_SHARE,
            figures=figures,
            config=f"uniformer/{config.format(variant[0])}.py",
        )
        for tag, task, config, by_variant in _DENSE
        for variant, figures in zip(("small", "base"), by_variant)
    ),
)
