"""NAT and DiNAT: classifiers on the Hugging Face hub, under the names of its library, and detectors
on the authors' own host."""

from mmeffvit.models.weights import WeightsFile

_HOST = "https://shi-labs.com/projects/dinat/checkpoints"
_LICENCE = "MIT"


def _classifier(network: str, note: str = "") -> WeightsFile:
    return WeightsFile(
        network,
        "in1k",
        "ImageNet-1K classifier",
        _LICENCE,
        hub=(f"shi-labs/{network}-in1k-224", "pytorch_model.bin"),
        note=note,
    )


NAT = tuple(_classifier(f"nat-{variant}") for variant in ("mini", "tiny", "small", "base"))
DINAT = (
    *(_classifier(f"dinat-{variant}") for variant in ("mini", "tiny", "small", "base")),
    _classifier("dinat-large", "fine-tuned after ImageNet-22K"),
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
