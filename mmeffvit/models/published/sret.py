"""SReT: classifiers in a share, with attention inside groups or to the whole map."""

from mmeffvit.models.weights import WeightsFile

_SHARE = "links in the README of github.com/szq0214/SReT"
_WHOLE = "trained with attention to the whole map: sliced=False"
#: variant, tag, accuracy, note
_FILES = (
    ("tiny", "in1k", 76.0, ""),
    ("lt", "in1k", 76.7, "in groups of 8, 4, 1 and 2, 1, 1"),
    ("small", "in1k", 81.9, ""),
    ("tiny", "in1k-distilled", 77.6, ""),
    ("lt", "in1k-distilled", 77.7, ""),
    ("tiny", "in1k-whole", 76.1, _WHOLE),
    ("lt", "in1k-whole", 76.8, _WHOLE),
    ("small", "in1k-whole", 82.0, _WHOLE),
    ("tiny", "in1k-whole-distilled", 77.7, _WHOLE),
    ("lt", "in1k-whole-distilled", 77.9, _WHOLE),
    ("tiny", "in1k-whole-384", 79.7, _WHOLE),
    ("small", "in1k-whole-384", 83.8, _WHOLE),
    ("small", "in1k-whole-512", 84.3, _WHOLE),
)

WEIGHTS = tuple(
    WeightsFile(
        f"sret-{variant}",
        tag,
        "ImageNet-1K classifier",
        "MIT",
        share=_SHARE,
        figures={"top-1": accuracy},
        note=note,
    )
    for variant, tag, accuracy, note in _FILES
)
