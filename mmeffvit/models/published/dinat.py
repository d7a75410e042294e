"""NAT and DiNAT: classifiers on the Hugging Face hub, under the names of its library, and detectors
on the authors' own host."""

from mmeffvit.models.weights import WeightsFile

_HOST = "https://shi-labs.com/projects/dinat/checkpoints"
_LICENCE = "MIT"


def _classifier(network: str, top1: float, note: str = "") -> WeightsFile:
    return WeightsFile(
        network,
        "in1k",
        "ImageNet-1K classifier",
        _LICENCE,
        hub=(f"shi-labs/{network}-in1k-224", "pytorch_model.bin"),
        figures={"top-1": top1},
        note=note,
    )


NAT = tuple(
    _classifier(f"nat-{variant}", top1)
    for variant, top1 in (("mini", 81.8), ("tiny", 83.2), ("small", 83.7), ("base", 84.3))
)
DINAT = (
    *(
        _classifier(f"dinat-{variant}", top1)
        for variant, top1 in (("mini", 81.8), ("tiny", 82.7), ("small", 83.8), ("base", 84.4))
    ),
    _classifier("dinat-large", 86.6, "fine-tuned after ImageNet-22K"),
    *(
        WeightsFile(
            f"dinat-{variant}",
            "mask-rcnn-3x",
            "Mask R-CNN 3x, COCO",
            _LICENCE,
            url=f"{_HOST}/coco/maskrcnn_dinat_{variant}.pth",
            figures={"box AP": box, "mask AP": mask},
            config=f"dinat/mask-rcnn_dinat-{variant[0]}_fpn_ms-3x_coco.py",
        )
        for variant, box, mask in (
            ("mini", 47.2, 42.5),
            ("tiny", 48.6, 43.5),
            ("small", 49.3, 44.0),
        )
    ),
    WeightsFile(
        "dinat-tiny",
        "upernet",
        "UPerNet 160k, ADE20K",
        _LICENCE,
        url=f"{_HOST}/ade20k/upernet_dinat_tiny.pth",
        note="its backbone is taken: there is no config of it here",
    ),
)
