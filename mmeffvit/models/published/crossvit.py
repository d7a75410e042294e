"""CrossViT: classifiers in a release of the authors' repository.

Figures are the official weights' in timm's results file.
"""

from mmeffvit.models.weights import WeightsFile

_RELEASE = "https://github.com/IBM/CrossViT/releases/download/weights-0.1"
_FIGURES = {
    "tiny": ("tiny_224", 73.352),
    "small": ("small_224", 81.036),
    "base": ("base_224", 82.212),
    "9": ("9_224", 73.994),
    "15": ("15_224", 81.522),
    "18": ("18_224", 82.39),
    "9-dagger": ("9_dagger_224", 76.99),
    "15-dagger": ("15_dagger_224", 82.302),
    "18-dagger": ("18_dagger_224", 82.494),
    "15-dagger-408": ("15_dagger_384", 83.842),
    "18-dagger-408": ("18_dagger_384", 84.198),
}

WEIGHTS = tuple(
    WeightsFile(
        f"crossvit-{variant}",
        "in1k",
        "ImageNet-1K classifier",
        "Apache-2.0",
        url=f"{_RELEASE}/crossvit_{file}.pth",
        figures={"top-1": accuracy},
    )
    for variant, (file, accuracy) in _FIGURES.items()
)
