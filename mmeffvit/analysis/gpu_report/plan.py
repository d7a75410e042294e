"""What a report holds, most important first."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmeffvit.analysis.gpu_report import agreement, backends, speed
from mmeffvit.analysis.gpu_report.run import Item
from mmeffvit.models import zoo

#: what the others are compared with
RIVALS = ("mmdet.SwinTransformer", "mmpretrain.ConvNeXt:out_indices=(0,1,2,3)")
#: measured before the other families
FIRST = ("secvit-tiny", "rmt-tiny", "ravlt-tiny", "ssvit-tiny")


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        small: Take our networks with few blocks, and one of them.
        detection: Height and width of training steps.
        detection_batch: Images in them.
        classification: Images at 224 x 224 of the throughput, and their side.
        sides: Of the images whose cost shows how it grows.
        map_size: Of operators.
        goldens: Golden files, at most so many.
        dtypes: Of operators.
        points: Of the room, and pillars of the sweep.
        rounds: Timed calls.
    """

    small: bool = False
    detection: tuple[int, int] = (800, 1344)
    detection_batch: int = 2
    classification: tuple[int, int] = (128, 224)
    sides: tuple[int, ...] = (512, 1024, 2048)
    map_size: tuple[int, int] = (50, 84)
    goldens: int | None = None
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    points: tuple[int, int] = (40000, 20000)
    rounds: int = 5


FULL = Sizes()
TINY = Sizes(
    small=True,
    detection=(64, 96),
    detection_batch=1,
    classification=(1, 64),
    sides=(32, 64),
    map_size=(9, 11),
    goldens=1,
    points=(300, 300),
    rounds=1,
)


def plan(sizes: Sizes, device: str, goldens: list[Path]) -> list[Item]:
    """Everything that is measured, most important first.

    Args:
        sizes: `FULL`, or `TINY` to see on any machine that all of it runs.
        device: ``cuda``, or another one.
        goldens: Golden files; the smallest are taken if `sizes` wants only some.
    """
    networks = list(_networks(sizes))
    first = [name for name in networks if name in FIRST or "." in name]
    goldens = sorted(goldens, key=lambda path: path.stat().st_size)[: sizes.goldens]
    others = [name for name in networks if name not in first]
    return [
        *_agreement(sizes, device, goldens),
        *_steps(sizes, device, first),
        *_detectors(sizes, device, first),
        *_compiled(sizes, device, first),
        *_back_ends(sizes, device),
        *_throughput(sizes, device, first),
        *_growth(sizes, device, first),
        *_points(sizes, device),
        *_steps(sizes, device, others),
        *_throughput(sizes, device, others),
        *_detectors(sizes, device, others),
        *_compiled(sizes, device, others),
    ]


def _networks(sizes: Sizes) -> Iterator[str]:
    if sizes.small:
        yield "rmt-tiny"
        return
    yield from RIVALS
    yield from FIRST
    names = zoo.list_backbones()
    for family in dict.fromkeys(zoo.split_name(name)[0] for name in names):
        variants = [name for name in names if zoo.split_name(name)[0] == family]
        # families without a tiny variant are shown by the first, in the order of their names
        name = next((name for name in variants if name.endswith("-tiny")), variants[0])
        if name not in FIRST:
            yield name


def _setting(sizes: Sizes, device: str, **changes: Any) -> dict[str, Any]:
    setting = {
        "device": device,
        "size": sizes.detection,
        "batch": sizes.detection_batch,
        "dtype": "bfloat16",
        "rounds": sizes.rounds,
        "warmup": 0 if sizes.small else 2,
    }
    return {**setting, **changes}


def _in_words(setting: dict[str, Any]) -> str:
    height, width = setting["size"]
    return f"{setting['batch']} x {height} x {width}, {setting['dtype']}"


def _agreement(sizes: Sizes, device: str, goldens: list[Path]) -> Iterator[Item]:
    for path in goldens:
        measure = functools.partial(agreement.golden, path, device)
        yield Item("Golden files", path.stem, "float32", measure)
    for dtype in sizes.dtypes:
        for name in agreement.OPERATORS:
            measure = functools.partial(agreement.operator, name, dtype, sizes.map_size, device)
            yield Item("Operators", name, dtype, measure)


def _back_ends(sizes: Sizes, device: str) -> Iterator[Item]:
    setting = _setting(sizes, device)
    for name, others in backends.BACK_ENDS.items():
        for other in others:
            measure = functools.partial(
                backends.beside_default, name, other, sizes.map_size, setting
            )
            rows, columns = sizes.map_size
            words = f"{setting['batch']} x {rows} x {columns} tokens, {setting['dtype']}"
            yield Item("Optional back ends", f"{name}: {other}", words, measure)


def _items(section: str, function: Any, names: list[str], setting: dict, **options: Any):
    for name in names:
        measure = functools.partial(function, name, setting, **options)
        yield Item(section, name, _in_words(setting), measure)


def _steps(sizes: Sizes, device: str, names: list[str]) -> Iterator[Item]:
    setting = _setting(sizes, device)
    yield from _items("Training step", speed.backbone_step, names, setting, small=sizes.small)


def _compiled(sizes: Sizes, device: str, names: list[str]) -> Iterator[Item]:
    setting = _setting(sizes, device)
    yield from _items(
        "Training step, compiled",
        speed.backbone_step,
        names,
        setting,
        small=sizes.small,
        compiled=True,
    )


def _detectors(sizes: Sizes, device: str, names: list[str]) -> Iterator[Item]:
    setting = _setting(sizes, device)
    yield from _items(
        "Training step of Mask R-CNN", speed.detector_step, names, setting, small=sizes.small
    )


def _throughput(sizes: Sizes, device: str, names: list[str]) -> Iterator[Item]:
    batch, side = sizes.classification
    setting = _setting(sizes, device, size=(side, side), batch=batch)
    yield from _items("Throughput", speed.throughput, names, setting, small=sizes.small)


def _growth(sizes: Sizes, device: str, names: list[str]) -> Iterator[Item]:
    setting = _setting(sizes, device, batch=1)
    for name in names:
        measure = functools.partial(speed.growth, name, setting, sizes.sides, small=sizes.small)
        yield Item("Growth", name, f"1 image, {setting['dtype']}", measure)


def _points(sizes: Sizes, device: str) -> Iterator[Item]:
    setting = _setting(sizes, device, dtype="float32")
    for kind, count in zip(("condaformer", "flatformer"), sizes.points):
        arch = points_arch(kind)
        measure = functools.partial(speed.point_step, kind, arch, count, setting)
        yield Item("Points", f"{kind}, {arch}", f"{count}, float32", measure)


def points_arch(kind: str) -> str:
    """The first variant of a network for points."""
    from mmeffvit.models.points import ConDaFormer, FlatFormer

    return next(iter({"condaformer": ConDaFormer, "flatformer": FlatFormer}[kind].arch_zoo))
