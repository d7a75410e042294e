"""The drawings of docs/architecture.md: ``python -m maintenance.drawings``.

What stands in `FLOORS` is compared with the order of floors that tests/test_package.py holds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

FOLDER = Path(__file__).parents[1] / "docs" / "images"
DPI = 180

INK = "#1f2933"
SOFT = "#5b6770"
LINE = "#9aa5b1"
PAPER = "#ffffff"
INNER = "#fcfdfe"


@dataclass(frozen=True)
class Floor:
    """A floor of the package.

    Attributes:
        rooms: Package or module -> what it holds, in a few words.
        fill: Colour of its rooms.
        edge: Colour of their frames.
        inside: What one finds in its only room.
    """

    rooms: dict[str, str]
    fill: str
    edge: str
    inside: tuple[str, ...] = ()


#: highest first, as a house is drawn
FLOORS = (
    Floor(
        {
            "analysis": "parameters, MACs,\ntime and memory",
            "deploy": "whole models\nas ONNX files",
            "swap": "puts a backbone into\na config of mmdet or mmseg",
        },
        "#fdecea",
        "#d6756b",
    ),
    Floor(
        {
            "engine": "hooks, metrics,\nlaunching, resuming",
            "visualization": "contact sheets, curves,\nattention, point clouds",
            "testing": "golden files and an\nadapter per family",
            "classification": "models by name\nin mmpretrain",
            "segmentation": "our heads\nin mmdet, mmseg",
        },
        "#fdf1e0",
        "#d99a4e",
    ),
    Floor(
        {
            "datasets": "layouts on disk\nand their checks",
            "demo_data": "digits, rooms, streets,\nmade on first use",
            "checkpoint": "official weights to ours,\nloading with a report",
        },
        "#fbf7dc",
        "#c0ab45",
    ),
    Floor(
        {"models": "networks: one contract, two loops, then one file per network"},
        "#e6f4e6",
        "#6aa56f",
        ("network.py", "zoo.py", "backbones/", "necks/", "heads/", "points/"),
    ),
    Floor(
        {"layers": "modules that two or more networks share"},
        "#e0f3f1",
        "#4f9f99",
        ("block.py", "ffn.py", "norm.py", "context.py", "mixers/", "points/"),
    ),
    Floor(
        {"compat": "repairs of the OpenMMLab stack, and stand-ins for mmcv's compiled operators"},
        "#eceff2",
        "#8793a0",
    ),
    Floor(
        {"ops": "formulas: functions on tensors"},
        "#e2effb",
        "#5a93c7",
        ("<op>/reference.py", "<op>/fused.py", "<op>/README.md", "dispatch.py", "points/"),
    ),
    Floor(
        {
            "registry": "names in\nconfigs",
            "configs": "walks over\ntheir trees",
            "structures": "labels and\nboxes of points",
            "files": "whole, or as\nthey were",
            "errors": "did you\nmean ...",
            "runtime": "exported\nmodels",
            "version": "its number\nalone",
        },
        "#ece9f8",
        "#8477bd",
    ),
)


class Sheet:
    """A page to draw on, in inches from its lower left corner."""

    def __init__(self, width: float, height: float):
        self.figure = Figure((width, height), dpi=DPI, facecolor=PAPER)
        self.width, self.height = width, height
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.set_axis_off()

    def box(self, x, y, width, height, fill, edge, radius=0.07, style="-", zorder=2):
        patch = FancyBboxPatch(
            (x + radius, y + radius),
            width - 2 * radius,
            height - 2 * radius,
            boxstyle=f"round,pad={radius},rounding_size={radius}",
            facecolor=fill,
            edgecolor=edge,
            linewidth=1.2,
            linestyle=style,
            zorder=zorder,
        )
        self.axes.add_patch(patch)

    def text(self, x, y, words, size=10, color=INK, mono=False, bold=False, **options):
        options = {"ha": "center", "va": "center", "linespacing": 1.25, "zorder": 5, **options}
        self.axes.text(
            x,
            y,
            words,
            fontsize=size,
            color=color,
            family="DejaVu Sans Mono" if mono else "DejaVu Sans",
            weight="bold" if bold else "normal",
            **options,
        )

    def part(self, x, y, width, height, fill, edge, name, words="", size=10.5, **options):
        """A box with a name in it and, below that, a few words."""
        self.box(x, y, width, height, fill, edge, **options)
        middle = x + width / 2
        if not words:
            self.text(
                middle, y + height / 2 - 0.05, name, size, mono=True, bold=True, va="baseline"
            )
            return
        self.text(middle, y + height - 0.24, name, size, mono=True, bold=True, va="baseline")
        self.text(middle, y + height - 0.34, words, 8.8, SOFT, va="top")

    def arrow(self, start, end, color=SOFT, width=1.4, bend=0.0, style="-|>", line="-"):
        self.axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle=style,
                mutation_scale=11,
                linewidth=width,
                linestyle=line,
                color=color,
                connectionstyle=f"arc3,rad={bend}" if bend else "arc3",
                shrinkA=0,
                shrinkB=0,
                zorder=4,
            )
        )

    def path(self, *points, color=SOFT, width=1.4):
        """Straight lines through points, with a head at the end."""
        xs, ys = zip(*points[:-1])
        self.axes.plot(xs, ys, color=color, linewidth=width, solid_capstyle="round", zorder=4)
        self.arrow(points[-2], points[-1], color, width)

    def save(self, path: Path) -> None:
        self.figure.savefig(path, metadata={"Software": None})


def draw_floors() -> Sheet:
    """Rooms by floor, what they may import beside the package, and who stands outside."""
    width, height, gap, left, right = 10.0, 8.62, 0.11, 0.75, 8.5
    sheet = Sheet(width, height)

    def places(count):
        share = (right - left - gap * (count - 1)) / count
        return [(left + i * (share + gap), share) for i in range(count)]

    y = height - 0.6
    outside = ("tools/", "configs/", "tests/", "maintenance/")
    for name, (x, share) in zip(outside, places(len(outside))):
        sheet.box(x, y, share, 0.42, PAPER, LINE, style=(0, (4, 3)))
        sheet.text(x + share / 2, y + 0.16, name, 10.5, SOFT, mono=True, va="baseline")
    sheet.text(
        right + 0.2,
        y + 0.21,
        "use the package,\nand it knows\nnothing of them",
        8.8,
        SOFT,
        ha="left",
    )

    spans = {}
    y -= 0.14
    for floor in FLOORS:
        lines = any("\n" in words for words in floor.rooms.values())
        tall = 1.0 if floor.inside else 0.8 if lines else 0.62
        y -= tall + gap
        for (name, words), (x, share) in zip(floor.rooms.items(), places(len(floor.rooms))):
            sheet.part(x, y, share, tall, floor.fill, floor.edge, name, words)
            spans[name] = y, y + tall
        chip = min(1.55, (right - left - 0.3) / max(len(floor.inside), 1) - 0.1)
        x = (left + right - len(floor.inside) * (chip + 0.1) + 0.1) / 2
        for name in floor.inside:
            sheet.box(x, y + 0.1, chip, 0.3, PAPER, floor.edge, radius=0.05, zorder=3)
            sheet.text(x + chip / 2, y + 0.21, name, 8.8, mono=True, va="baseline")
            x += chip + 0.1

    for highest, lowest, words in (
        ("analysis", "datasets", "torch, mmengine,\nand a toolbox\nwhere one is used"),
        ("models", "layers", "torch and\nmmengine"),
        ("compat", "compat", "mmcv, mmengine\nwhere installed"),
        ("ops", "ops", "torch alone"),
        ("registry", "registry", "torch and\nmmengine"),
    ):
        low, top = spans[lowest][0], spans[highest][1]
        sheet.axes.plot([right + 0.1] * 2, [low, top], color=LINE, linewidth=2, zorder=1)
        sheet.text(right + 0.2, (top + low) / 2, words, 8.8, SOFT, ha="left")

    sheet.arrow((0.5, height - 0.18), (0.5, y), INK, 2.2)
    sheet.text(0.28, height / 2, "imports go down only", 10.5, INK, rotation=90)
    return sheet


def photograph() -> np.ndarray:
    """(224, 224, 3) cat."""
    from PIL import Image
    from skimage.data import chelsea

    return np.asarray(Image.fromarray(chelsea()[:, 80:380]).resize((224, 224)))


def pooled(image: np.ndarray, stride: int) -> np.ndarray:
    side = len(image) // stride
    return image.reshape(side, stride, side, stride, 3).mean((1, 3)).astype(np.uint8)


STEM = ("#ece9f8", "#8477bd")
BLOCK = ("#e6f4e6", "#6aa56f")
MERGE = ("#fdf1e0", "#d99a4e")
MIXER = ("#e2effb", "#5a93c7")
FFN = ("#fbf7dc", "#c0ab45")
PLAIN = ("#f4f6f8", "#9aa5b1")
POINTS = ("#e0f3f1", "#4f9f99")


def draw_pyramid() -> Sheet:
    """An image through a pyramid; a block opened; a mixer opened, on maps and on points."""
    sheet = Sheet(10.0, 9.25)
    _draw_stages(sheet, 6.25)
    _draw_block(sheet, 4.1)
    _draw_mixer(sheet, 0.1)
    return sheet


def _title(sheet: Sheet, y: float, name: str, words: str) -> None:
    sheet.text(0.3, y, name, 11.5, mono=True, bold=True, ha="left", va="baseline")
    sheet.text(0.46 + 0.098 * len(name), y, words, 10, SOFT, ha="left", va="baseline")


def _frame(sheet: Sheet, y: float, height: float, edge: str, name: str, words: str) -> None:
    sheet.box(0.12, y, 9.76, height, INNER, edge, radius=0.1, zorder=0)
    _title(sheet, y + height - 0.32, name, words)


def _picture(sheet: Sheet, shown: np.ndarray, x: float, y: float, size: float) -> None:
    smooth = "antialiased" if len(shown) > 100 else "nearest"
    extent = (x, x + size, y, y + size)
    sheet.axes.imshow(shown, extent=extent, interpolation=smooth, aspect="auto", zorder=3)
    sheet.axes.add_patch(
        Rectangle((x, y), size, size, fill=False, edgecolor=INK, linewidth=0.8, zorder=4)
    )
    sheet.axes.set(xlim=(0, sheet.width), ylim=(0, sheet.height))


def _draw_stages(sheet: Sheet, y: float) -> None:
    image = photograph()
    line = y + 1.95
    _title(
        sheet,
        y + 2.7,
        "Pyramid",
        "is the loop; a network says in its file how stem, merge and block are made",
    )
    _picture(sheet, image, 0.3, line - 0.6, 1.2)
    sheet.text(0.9, line - 0.75, "(B, 3, H, W)", 8.8, SOFT)
    sheet.arrow((1.5, line), (1.72, line))
    sheet.part(1.75, line - 0.24, 0.75, 0.48, *STEM, "stem", size=10)
    x = 2.5
    for stage, (stride, size) in enumerate(zip((4, 8, 16, 32), (1.0, 0.84, 0.7, 0.56))):
        if stage:
            sheet.arrow((x, line), (x + 0.14, line))
            sheet.part(x + 0.16, line - 0.21, 0.7, 0.42, *MERGE, "merge", size=9.5)
            x += 0.86
        sheet.arrow((x, line), (x + 0.14, line))
        for i in (2, 1, 0):
            sheet.box(x + 0.17 + 0.06 * i, line - 0.34 + 0.06 * i, 0.78, 0.6, *BLOCK, zorder=3 - i)
        sheet.text(x + 0.56, line - 0.09, "block", 9.5, mono=True, bold=True, va="baseline")
        middle = x + 0.56
        sheet.arrow((middle, line - 0.34), (middle, line - 0.66))
        _picture(sheet, pooled(image, stride), middle - size / 2, line - 0.68 - size, size)
        words = f"(B, C$_{stage}$, H/{stride}, W/{stride})"
        sheet.text(middle, line - 0.82 - size, words, 8.8, SOFT)
        x += 1.07
    words = "A tuple of maps comes out,\none for each of out_indices.\nSizes are rounded up."
    sheet.text(0.3, line - 1.3, words, 9, SOFT, ha="left")


def _plus(sheet: Sheet, x: float, y: float) -> None:
    circle = {"boxstyle": "circle,pad=0.12", "facecolor": PAPER, "edgecolor": SOFT}
    sheet.text(x, y, "+", 11, bold=True, bbox=circle)


def _draw_block(sheet: Sheet, y: float) -> None:
    words = "is put together from its parts, which are arguments"
    _frame(sheet, y, 1.9, BLOCK[1], "Block", words)
    line = y + 0.68
    sheet.text(0.42, line, "x", 11, mono=True, bold=True)
    parts = (
        ("pos", PLAIN, 0.75, "with its\nresidual"),
        ("norm1", PLAIN, 0.85, ""),
        ("mixer", MIXER, 1.0, "mixes tokens"),
        ("scale", PLAIN, 0.85, "and drop path"),
        ("norm2", PLAIN, 0.85, ""),
        ("ffn", FFN, 0.9, "mixes channels"),
        ("scale", PLAIN, 0.85, "and drop path"),
    )
    x, fork = 0.55, 0.0
    for name, colours, width, words in parts:
        if name.startswith("norm"):
            fork = x + 0.06
        sheet.arrow((x, line), (x + 0.22, line))
        sheet.part(x + 0.25, line - 0.21, width, 0.42, *colours, name, size=10)
        plain = {"facecolor": INNER, "edgecolor": "none", "pad": 1} if words else None
        sheet.text(x + 0.25 + width / 2, line - 0.28, words, 8.5, SOFT, va="top", bbox=plain)
        if name == "mixer":  # opened below
            for start, end in ((x + 0.3, 0.3), (x + 0.2 + width, 9.7)):
                dashes = {"color": MIXER[1], "linewidth": 1, "linestyle": (0, (3, 3)), "alpha": 0.7}
                sheet.axes.plot((start, end), (line - 0.22, y - 0.17), zorder=1, **dashes)
        x += 0.25 + width
        if name == "scale":
            sheet.arrow((x, line), (x + 0.16, line))
            x += 0.28
            sheet.path((fork, line), (fork, line + 0.46), (x, line + 0.46), (x, line + 0.13))
            _plus(sheet, x, line)
            x += 0.12
    sheet.arrow((x, line), (x + 0.22, line))
    sheet.text(x + 0.35, line, "x", 11, mono=True, bold=True)


def _draw_mixer(sheet: Sheet, y: float) -> None:
    words = "projections, a core, the way out; the same core serves maps and points"
    _frame(sheet, y, 3.83, MIXER[1], "Mixer", words)
    middle = y + 1.72
    sheet.part(
        *(4.2, middle - 0.62, 2.1, 1.24),
        *MIXER,
        "core",
        "(q, k, v, positions)\nto (B, L, h, d): calls\nan operator of ops,\nhas no projections",
        size=11,
    )
    lanes = (
        (1, PLAIN, "a map\n(B, C, H, W)", "qkv: 1×1\nconvolution", "B", "MapContext"),
        (-1, POINTS, "points\n(N, C)", "qkv:\nlinear", "1", "PointLevel"),
    )
    for side, colours, ends, first, batch, context in lanes:
        line, inward = middle + side * 0.85, middle + side * 0.33
        sheet.text(0.8, line, ends, 9.2)
        sheet.arrow((1.35, line), (1.57, line))
        sheet.box(1.6, line - 0.27, 1.05, 0.54, *colours)
        sheet.text(2.125, line, first, 9)
        sheet.path((2.65, line), (3.9, line), (3.9, inward), (4.17, inward))
        sheet.text(3.27, line + side * 0.25, f"q, k, v\n({batch}, L, h, d)", 8.8, SOFT)
        outer = middle + side * 1.35
        sheet.box(4.5, outer - 0.2, 1.5, 0.4, *colours)
        sheet.text(5.25, outer - 0.045, context, 9.2, mono=True, va="baseline")
        sheet.arrow((5.25, outer - side * 0.2), (5.25, middle + side * 0.65))
        sheet.text(5.35, middle + side * 0.9, "positions", 8.8, SOFT, ha="left")
        sheet.path((6.3, inward), (6.55, inward), (6.55, line), (6.82, line))
        sheet.box(6.85, line - 0.27, 0.95, 0.54, *colours)
        sheet.text(7.325, line, "+ lepe(v)", 9)
        sheet.arrow((7.8, line), (8.02, line))
        sheet.part(8.05, line - 0.27, 0.65, 0.54, *colours, "proj", size=9.5)
        sheet.arrow((8.7, line), (8.92, line))
        sheet.text(9.37, line, ends.partition("\n")[2], 9.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the pictures")
    folder = parser.parse_args().out
    draw_floors().save(folder / "architecture_floors.png")
    draw_pyramid().save(folder / "architecture_pyramid.png")


if __name__ == "__main__":
    main()
