"""Time and peak memory on a device: backbones, whole detectors, networks for points."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from mmeffvit.analysis import points
from mmeffvit.analysis.backbones import build_backbone, is_registered_type
from mmeffvit.analysis.benchmark import growth_exponent, time_in_turn
from mmeffvit.analysis.gpu_report.run import Value
from mmeffvit.analysis.memory import MIB
from mmeffvit.models import zoo
from mmeffvit.models.network import input_channels
from mmeffvit.testing import small_arch


def backbone_step(
    name: str, setting: Mapping[str, Any], *, small: bool, compiled: bool = False
) -> Iterator[Value]:
    """Forward and backward in training mode, at ``size`` and ``batch``, under ``dtype``."""
    network = _backbone(name, small).to(setting["device"]).train()
    run = _compiled(network, setting["device"]) if compiled else network
    image = _image(network, setting)

    def step() -> None:
        with _autocast(setting):
            maps = run(image)
        maps = maps if isinstance(maps, tuple | list) else (maps,)
        sum(m.float().mean() for m in maps).backward()
        network.zero_grad(set_to_none=True)

    yield from _cost(step, setting)


def throughput(name: str, setting: Mapping[str, Any], *, small: bool) -> Iterator[Value]:
    """Images per second in evaluation mode."""
    network = _backbone(name, small).to(setting["device"]).eval()
    image = _image(network, setting)

    def step() -> None:
        with torch.inference_mode(), _autocast(setting):
            network(image)

    seconds = _seconds(step, setting)
    yield Value("throughput", setting["batch"] / seconds, "images/s")


def growth(
    name: str, setting: Mapping[str, Any], sides: tuple[int, ...], *, small: bool
) -> Iterator[Value]:
    """Time of an image at several sizes, and the exponent of the area that fits it."""
    network = _backbone(name, small).to(setting["device"]).eval()
    times = []
    for side in sides:
        image = _image(network, {**setting, "size": (side, side)})

        def step(image: Tensor = image) -> None:
            with torch.inference_mode(), _autocast(setting):
                network(image)

        times.append(_seconds(step, setting))
        yield Value(f"{side} x {side}", 1e3 * times[-1], "ms")
    yield Value("exponent of the area", growth_exponent([s * s for s in sides], times))


def detector_step(name: str, setting: Mapping[str, Any], *, small: bool) -> Iterator[Value]:
    """A training step of Mask R-CNN without its optimizer, on made-up boxes and masks."""
    model = _mask_rcnn(name, small).to(setting["device"]).train()
    image = _image(model.backbone, setting)
    samples = _samples(setting)

    def step() -> None:
        with _autocast(setting):
            losses = model.loss(image, samples)
        model.parse_losses(losses)[0].backward()
        model.zero_grad(set_to_none=True)

    yield from _cost(step, setting)


def point_step(kind: str, arch: str, count: int, setting: Mapping[str, Any]) -> Iterator[Value]:
    """ConDaFormer, forward and backward, or FlatFormer's middle encoder, in float32."""
    prepare = {"condaformer": points.prepare_network, "flatformer": points.prepare_flatformer}
    step = prepare[kind](arch, count, "fused" if kind == "condaformer" else "", setting["device"])
    yield from _cost(step, setting)


def _backbone(name: str, small: bool) -> nn.Module:
    torch.manual_seed(0)
    if small and not is_registered_type(name):
        return zoo.backbone_classes()[zoo.split_name(name)[0]](arch=small_arch(name))
    return build_backbone(name)


def _compiled(network: nn.Module, device: str) -> Callable:
    if torch.device(device).type == "cuda":
        return torch.compile(network, dynamic=True)
    # this only shows that it is traced: code for a CPU takes minutes to compile
    return torch.compile(network, dynamic=False, backend="eager")


def _mask_rcnn(name: str, small: bool) -> nn.Module:
    from mmengine.registry import MODELS, DefaultScope

    from mmeffvit import compat
    from mmeffvit.engine.launch import load_config
    from mmeffvit.swap import swap_backbone

    compat.setup()
    cfg = load_config("mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py")
    options = {"arch": small_arch(name)} if small and not is_registered_type(name) else {}
    swap_backbone(cfg, name, **options)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(cfg.model)


def _samples(setting: Mapping[str, Any]) -> list:
    """Ten boxes with rectangular masks on each image."""
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    height, width = setting["size"]
    generator = np.random.default_rng(0)
    samples = []
    for _ in range(setting["batch"]):
        corners = generator.uniform(0, 0.6, (10, 2)) * (width, height)
        sides = generator.uniform(0.1, 0.4, (10, 2)) * (width, height)
        boxes = np.concatenate((corners, corners + sides), 1).astype(np.float32)
        masks = np.zeros((10, height, width), np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int)):
            mask[top:bottom, left:right] = 1
        shape = {"img_shape": (height, width), "ori_shape": (height, width)}
        sample = DetDataSample(
            metainfo={**shape, "pad_shape": (height, width), "batch_input_shape": (height, width)}
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.from_numpy(boxes),
            labels=torch.from_numpy(generator.integers(0, 80, 10)),
            masks=BitmapMasks(masks, height, width),
        )
        samples.append(sample.to(setting["device"]))
    return samples


def _image(network: nn.Module, setting: Mapping[str, Any]) -> Tensor:
    shape = (setting["batch"], input_channels(network), *setting["size"])
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator).to(setting["device"])


def _autocast(setting: Mapping[str, Any]) -> AbstractContextManager:
    dtype = setting["dtype"]
    return torch.autocast(
        torch.device(setting["device"]).type,
        dtype=torch.bfloat16 if dtype == "float32" else getattr(torch, dtype),
        enabled=dtype != "float32",
    )


def _on_gpu(setting: Mapping[str, Any]) -> bool:
    return torch.device(setting["device"]).type == "cuda"


def _seconds(step: Callable[[], Any], setting: Mapping[str, Any]) -> float:
    synchronize = torch.cuda.synchronize if _on_gpu(setting) else (lambda: None)
    times = time_in_turn({"": step}, setting["rounds"], setting["warmup"], synchronize)
    return statistics.median(times[""])


def _cost(step: Callable[[], Any], setting: Mapping[str, Any]) -> Iterator[Value]:
    """Median time, and on a GPU the peak of memory with weights and gradients."""
    if _on_gpu(setting):
        torch.cuda.reset_peak_memory_stats()
    yield Value("time", 1e3 * _seconds(step, setting), "ms")
    peak = torch.cuda.max_memory_allocated() / MIB if _on_gpu(setting) else math.nan
    if not math.isnan(peak):
        yield Value("peak memory", peak, "MiB")
