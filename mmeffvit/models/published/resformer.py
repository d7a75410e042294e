"""ResFormer: classifiers in a share; figures at the sizes of images that the README has."""

from mmeffvit.models.weights import WeightsFile

_SHARE = "links in the README of github.com/ruitian12/resformer"


def _classifier(variant: str, tag: str, sizes: str, accuracy: float) -> WeightsFile:
    return WeightsFile(
        f"resformer-{variant}",
        tag,
        "ImageNet-1K classifier",
        "MIT",
        share=_SHARE,
        figures={"top-1": accuracy},
        note=f"trained at {sizes} pixels; the figure is that of 224",
    )


_SMALLER = "128, 160 and 224"
WEIGHTS = (
    _classifier("tiny", "in1k", _SMALLER, 73.85),
    _classifier("small", "in1k", _SMALLER, 82.16),
    _classifier("small", "in1k-384", "128, 224 and 384", 82.28),
    _classifier("base", "in1k", _SMALLER, 82.72),
)
