"""CSWin: classifiers and segmentors in the releases of the authors' repository."""

from mmeffvit.models.weights import WeightsFile

_RELEASES = "https://github.com/microsoft/CSWin-Transformer/releases/download"
_LICENCE = "MIT"

WEIGHTS = (
    *(
        WeightsFile(
            f"cswin-{variant}",
            tag,
            f"ImageNet-{task}",
            _LICENCE,
            url=f"{_RELEASES}/v0.1.0/{file}.pth",
            figures={} if top1 is None else {"top-1": top1},
        )
        for variant, tag, task, file, top1 in (
            ("tiny", "in1k", "1K classifier", "cswin_tiny_224", 82.8),
            ("small", "in1k", "1K classifier", "cswin_small_224", 83.6),
            ("base", "in1k", "1K classifier", "cswin_base_224", 84.2),
            ("large", "in1k", "1K classifier", "cswin_large_224", 86.5),
            ("large", "in22k", "22K classifier", "cswin_large_22k_224", None),
            ("base-384", "in1k", "1K classifier, 384x384", "cswin_base_384", 85.5),
            ("large-384", "in1k", "1K classifier, 384x384", "cswin_large_384", 87.5),
        )
    ),
    *(
        WeightsFile(
            f"cswin-{variant}",
            "upernet",
            "UPerNet 160k, ADE20K",
            _LICENCE,
            url=f"{_RELEASES}/v0.2.0/upernet_cswin_{variant}.pth",
            figures={"mIoU": miou},
            config=f"cswin/upernet_cswin-{variant[0]}_8xb2-160k_ade20k-512x512.py",
        )
        for variant, miou in (("tiny", 49.3), ("small", 50.4), ("base", 51.1))
    ),
)
