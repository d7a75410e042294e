"""The table of docs/backbones.md: every backbone with its measured and its published numbers.

python -m maintenance.backbones               # measure what docs/backbones.csv lacks, write all
python -m maintenance.backbones 'secvit-*'    # measure these once more, too

Rows are kept as they are measured, so that a run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from maintenance.metafiles import read_metafiles
from maintenance.pages import fill
from mmeffvit import create_backbone, list_backbones
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.analysis.results import markdown, write_csv
from mmeffvit.models.weights import weights_files
from mmeffvit.models.zoo import backbone_classes, split_name
from mmeffvit.visualization.files import save_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
PAGE, NUMBERS = ROOT / "docs/backbones.md", ROOT / "docs/backbones.csv"
PICTURE = ROOT / "docs/images/backbones.jpg"
#: sides of an image for classification, and for detection
SMALL, LARGE = (224, 224), (800, 1344)
_README = "the authors' README"
_TOKEN_LABELS = f"{_README}, trained with token labels"
#: top-1 of ImageNet-1K, and where it stands, that no metafile and no weights file has
ELSEWHERE: Mapping[str, tuple[float, str]] = {
    "dinat-large-11x11": (87.5, f"{_README}, at 384x384, after ImageNet-22K"),
    "dinat-s-tiny": (81.8, _README),
    "dinat-s-small": (83.5, _README),
    "dinat-s-base": (83.8, _README),
    "dinat-s-large": (86.5, f"{_README}, after ImageNet-22K"),
    "favit-b1": (79.4, _README),
    "favit-b2": (82.3, _README),
    "favit-b3": (83.4, _README),
    "uniformer-base-ls": (83.9, _README),
    "uniformer-large": (85.6, _TOKEN_LABELS),
    # it does not say of which of its two forms
    "svt-small": (84.2, _TOKEN_LABELS),
    "svt-base": (85.2, _TOKEN_LABELS),
    "svt-large": (85.7, _TOKEN_LABELS),
    "vitar-small": (80.3, "table 1 of the paper"),
    "vitar-base": (81.9, "table 1 of the paper"),
}
#: families whose folder of configs is named differently
FOLDERS = {"nat": "dinat", "dinat-s": "dinat", "vit-comer": "vit_comer"}
HEADINGS = (
    "backbone",
    "parameters (M)",
    "MACs at 224x224 (G)",
    "at 800x1344 (G)",
    "of which attention",
    "strides",
    "channels",
    "published top-1",
    "read in",
)
_NONE = "—"


@dataclass(frozen=True)
class Numbers:
    """What a backbone alone, with all its maps, was measured to be.

    Attributes:
        name: One of `list_backbones`.
        parameters: Their number.
        macs: Multiply-accumulates at `SMALL`, in units of one.
        macs_large: The same at `LARGE`.
        attention_large: Those of `macs_large` that multiply two activations.
        strides: Of its maps, in pixels.
        channels: Of its maps.
    """

    name: str
    parameters: int
    macs: int
    macs_large: int
    attention_large: int
    strides: tuple[int, ...]
    channels: tuple[int, ...]

    @classmethod
    def measure(cls, name: str) -> Numbers:
        """Count it on the meta device, without weights."""
        with torch.device("meta"):
            backbone = create_backbone(name).eval()
        small, large = (count_complexity(backbone, size) for size in (SMALL, LARGE))
        return cls(
            name,
            small.total_params,
            small.total_macs,
            large.total_macs,
            large.macs_of("attention"),
            tuple(backbone.out_strides),
            tuple(backbone.out_channels),
        )

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Numbers:
        """Of a row of the CSV."""
        name, *counts, strides, channels = (row[field.name] for field in fields(cls))
        several = (tuple(map(int, numbers.split())) for numbers in (strides, channels))
        return cls(name, *map(int, counts), *several)

    def row(self) -> dict[str, str]:
        """For the CSV."""
        return {
            key: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            for key, value in asdict(self).items()
        }


def published_accuracies() -> dict[str, tuple[float, str]]:
    """Name -> published top-1 on ImageNet-1K in percent at the network's size, and where it stands.

    What a metafile says comes first, as it is read from the paper or its code; then the catalogue
    of weights, then `ELSEWHERE`.
    """
    found = dict(ELSEWHERE)
    for file in weights_files().values():
        if file.tag == "in1k" and "top-1" in file.figures:
            found[file.network] = file.figures["top-1"], "the catalogue of weights"
    for collection in read_metafiles(ROOT):
        for model in collection.models:
            if model.data == "ImageNet-1K" and "Top 1 Accuracy" in model.published:
                name = model.name.partition("_")[0]
                found[name] = model.published["Top 1 Accuracy"], "its metafile"
    return found


def read_numbers() -> dict[str, Numbers]:
    """Name -> what docs/backbones.csv has."""
    if not NUMBERS.exists():
        return {}
    with NUMBERS.open(newline="") as file:
        return {row["name"]: Numbers.from_row(row) for row in csv.DictReader(file)}


def write_numbers(numbers: Iterable[Numbers]) -> None:
    """Write docs/backbones.csv."""
    write_csv(NUMBERS, [n.row() for n in numbers], [field.name for field in fields(Numbers)])


def table(numbers: Mapping[str, Numbers]) -> str:
    """The table in Markdown: families in the order of their names, variants from small to large."""
    accuracies = published_accuracies()
    rows = []
    for family, cls in sorted(backbone_classes().items()):
        of_family = [numbers[f"{family}-{variant}"] for variant in cls.arch_zoo]
        for n in sorted(of_family, key=lambda n: n.macs):
            accuracy, source = accuracies.get(n.name, (_NONE, ""))
            rows.append(
                (
                    _linked(n.name, family),
                    f"{n.parameters / 1e6:.2f}",
                    f"{n.macs / 1e9:.2f}",
                    f"{n.macs_large / 1e9:.0f}",
                    f"{n.attention_large / n.macs_large:.0%}",
                    ", ".join(map(str, n.strides)),
                    ", ".join(map(str, n.channels)),
                    str(accuracy),
                    source,
                )
            )
    return markdown(HEADINGS, rows)


def comparable(accuracies: Mapping[str, tuple[float, str]]) -> list[str]:
    """Names of backbones trained on ImageNet-1K alone, with labels of images, at 224x224."""
    other = ("-384", "-408", "-11x11", "svt-")
    other += tuple(f"{family}-large" for family in ("cswin", "dinat", "dinat-s", "uniformer"))
    return [name for name in accuracies if not any(part in name for part in other)]


def _linked(name: str, family: str) -> str:
    readme = f"configs/{FOLDERS.get(family, family)}/README.md"
    return f"[{name}](../{readme})" if (ROOT / readme).exists() else name


def picture(numbers: Mapping[str, Numbers]) -> Figure:
    """Published accuracy against measured cost, a line for every family."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    accuracies = published_accuracies()
    names = comparable(accuracies)
    families: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: numbers[name].macs):
        families.setdefault(split_name(name)[0], []).append(name)
    figure = Figure(figsize=(10, 6.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    colours = colormaps["tab20"].colors
    for i, (family, members) in enumerate(sorted(families.items())):
        axes.plot(
            [numbers[name].macs / 1e9 for name in members],
            [accuracies[name][0] for name in members],
            marker="os^Dv"[i % 5],
            color=colours[2 * i % 20 + i // 10],
            label=backbone_classes()[family].__name__,
        )
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 5, 10, 20]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("multiply-accumulates of the backbone at 224x224, in billions (measured)")
    axes.set_ylabel("top-1 on ImageNet-1K in percent (published)")
    axes.grid(alpha=0.3)
    axes.legend(ncols=2, loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pattern", nargs="?", default="", help="backbones to measure once more")
    pattern = parser.parse_args().pattern
    names = list_backbones()
    numbers = {name: n for name, n in read_numbers().items() if name in names}
    missing = [n for n in names if n not in numbers or fnmatch.fnmatch(n, pattern)]
    start = time.monotonic()
    for done, name in enumerate(missing, start=1):
        numbers[name] = Numbers.measure(name)
        write_numbers(numbers[n] for n in names if n in numbers)
        left = (time.monotonic() - start) / done * (len(missing) - done)
        print(f"[{done}/{len(missing)}, {left:.0f} s left] {name}", flush=True)
    fill(PAGE, "backbones", table(numbers))
    save_picture(picture(numbers), PICTURE)


if __name__ == "__main__":
    main()
