"""Time and peak memory of backbones over input sizes, made so that ratios can be trusted.

Everything that is compared runs in one process and in turn: each round calls every contender once,
in an order that is reversed from round to round, so that a machine that slows down slows them all.
A ratio is the median of the rounds' own ratios. Memory is measured apart, each contender in a fresh
process.
"""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from mmeffvit.analysis.backbones import build_backbone, is_registered_type
from mmeffvit.analysis.memory import MIB, ChildError, peak_memory
from mmeffvit.compat.distribution import installed_version
from mmeffvit.models.network import input_channels
from mmeffvit.ops.dispatch import ENVIRONMENT_VARIABLE

MODES = ("forward", "train")
DTYPES = ("float32", "bfloat16", "float16")

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Setting:
    """What all contenders are given in the same way.

    Attributes:
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        mode: ``"forward"`` without gradients in evaluation mode, or ``"train"``: forward and
            backward in training mode, starting from the mean of every output.
        batch_size: Images in the input.
        dtype: ``"float32"``, or the low precision of autocast.
        device: ``"cpu"`` or a CUDA device.
    """

    height: int
    width: int
    mode: str = "forward"
    batch_size: int = 1
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self):
        for name, allowed in (("mode", MODES), ("dtype", DTYPES)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is not one of {', '.join(allowed)}"
                )

    @property
    def area(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Contender:
    """A backbone, and the implementation of its operators where it has a choice (else empty)."""

    backbone: str
    implementation: str = ""

    def __str__(self) -> str:
        return f"{self.backbone} {self.implementation}".rstrip()


@dataclass(frozen=True)
class Measurement:
    """Result of one contender in one setting.

    Attributes:
        setting: What was given.
        contender: What was measured.
        times: Seconds of every round; empty if it did not run.
        peak_bytes: Peak memory above weights and input; None if not measured.
        speedup: Median over rounds of (time of ``reference``) / (own time), if both ran.
        note: Why something is missing.
    """

    setting: Setting
    contender: Contender
    times: tuple[float, ...] = ()
    peak_bytes: int | None = None
    speedup: float | None = None
    note: str = ""

    @property
    def seconds(self) -> float:
        """Median time, NaN if it did not run."""
        return statistics.median(self.times) if self.times else math.nan


def make_contenders(
    backbones: Iterable[str], implementations: Iterable[str | None]
) -> list[Contender]:
    """Every backbone of ours with every implementation; a toolbox's backbone once."""
    implementations = list(implementations) or [None]
    return [
        Contender(backbone, implementation or "")
        for backbone in backbones
        for implementation in ([None] if is_registered_type(backbone) else implementations)
    ]


def time_in_turn(
    calls: Mapping[Key, Callable[[], Any]],
    rounds: int,
    warmup: int = 1,
    synchronize: Callable[[], Any] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, tuple[float, ...]]:
    """Time several calls, one after the other in each round, every second round in reverse order.

    Args:
        calls: What to time, by name.
        rounds: Number of timed rounds.
        warmup: Rounds before that, not timed.
        synchronize: Waits until the device is idle.
        clock: Seconds.

    Returns:
        Seconds per round, in the order of rounds, for each name.
    """
    if rounds < 1 or warmup < 0:
        raise ValueError(f"rounds={rounds}, warmup={warmup}: need rounds >= 1 and warmup >= 0")
    times: dict[Key, list[float]] = {name: [] for name in calls}
    for index in range(-warmup, rounds):
        names = list(calls) if index % 2 == 0 else list(reversed(calls))
        for name in names:
            synchronize()
            start = clock()
            calls[name]()
            synchronize()
            if index >= 0:
                times[name].append(clock() - start)
    return {name: tuple(values) for name, values in times.items()}


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Median of the ratios of values that were measured in the same round."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def growth_exponent(areas: Sequence[float], values: Sequence[float]) -> float:
    """Exponent p of the least-squares fit ``value ~ area ** p``: 1 is linear cost, 2 quadratic.

    Raises:
        ValueError: If there are fewer than two different areas, or a value is not positive.
    """
    if len(set(areas)) < 2:
        raise ValueError(f"growth needs two different input sizes, got areas {sorted(set(areas))}")
    if min(*areas, *values) <= 0:
        raise ValueError("growth needs areas and values above 0")
    x = [math.log(area) for area in areas]
    y = [math.log(value) for value in values]
    return statistics.linear_regression(x, y).slope


def growth_over_area(areas: Sequence[float], values: Sequence[float]) -> float:
    """How much more a value grew than the area, from the smallest to the largest input.

    1 is cost per pixel that stays the same; 1.15 is 15 per cent more per pixel at the largest.
    """
    (small, first), *_, (large, last) = sorted(zip(areas, values, strict=True))
    return (last / first) / (large / small)


def prepare_call(
    setting: Setting, contender: Contender, options: Mapping[str, Any], warm: bool = True
) -> Callable[[], Any]:
    """Build a backbone and its input; the returned call runs it once.

    Args:
        setting: Input, mode, dtype and device.
        contender: What runs.
        options: Arguments of our backbones; a toolbox's backbone does not get them.
        warm: Run once at 64x64 first, so that what libraries load on first use is not measured.
    """
    torch.manual_seed(0)
    model = _build(contender.backbone, options).to(setting.device)
    call = _call(model, setting, contender)
    if warm:
        tiny = Setting(64, 64, setting.mode, 2, setting.dtype, setting.device)
        _call(model, tiny, contender)()
    return call


def run_setting(
    setting: Setting,
    contenders: Sequence[Contender],
    *,
    rounds: int = 5,
    warmup: int = 1,
    memory: bool = True,
    options: Mapping[str, Any] | None = None,
) -> list[Measurement]:
    """Measure all contenders in one setting.

    Memory comes first: what needs more than the machine has free is not timed, and says so.

    Args:
        setting: Input, mode, dtype and device.
        contenders: Compared with each other.
        rounds: Timed calls of each.
        warmup: Calls of each before that.
        memory: Measure peak memory too.
        options: Arguments given to every backbone of ours.
    """
    options = dict(options or {})
    peaks: dict[Contender, int | None] = {}
    notes: dict[Contender, str] = {}
    for contender in contenders:
        peaks[contender], notes[contender] = (
            _measure_memory(setting, contender, options) if memory else (None, "")
        )
    # one set of weights per backbone serves all of its implementations
    models: dict[str, nn.Module] = {}
    calls = {}
    for contender in contenders:
        if notes[contender]:
            continue
        if contender.backbone not in models:
            torch.manual_seed(0)
            models[contender.backbone] = _build(contender.backbone, options).to(setting.device)
        calls[contender] = _call(models[contender.backbone], setting, contender)
    on_gpu = torch.device(setting.device).type == "cuda"
    synchronize = torch.cuda.synchronize if on_gpu else (lambda: None)
    times = time_in_turn(calls, rounds, warmup, synchronize)

    measurements = []
    for contender in contenders:
        reference = times.get(Contender(contender.backbone, "reference"))
        own = times.get(contender, ())
        speedup = paired_ratio(reference, own) if reference and own else None
        measurements.append(
            Measurement(setting, contender, own, peaks[contender], speedup, notes[contender])
        )
    return measurements


def describe_environment(device: str = "cpu") -> dict[str, str]:
    """Machine and versions, as they belong beside every number."""
    return {
        "machine": _machine(device),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "mmengine": _version_of("onedl-mmengine", "mmengine"),
        "mmdet": _version_of("onedl-mmdetection", "mmdet"),
        "mmeffvit": _version_of("mmeffvit"),
    }


def _build(backbone: str, options: Mapping[str, Any]) -> nn.Module:
    return build_backbone(backbone, **({} if is_registered_type(backbone) else options))


def _call(model: nn.Module, setting: Setting, contender: Contender) -> Callable[[], Any]:
    generator = torch.Generator().manual_seed(1)
    shape = (setting.batch_size, input_channels(model), setting.height, setting.width)
    image = torch.randn(shape, generator=generator).to(setting.device)
    train = setting.mode == "train"

    def autocast():
        return torch.autocast(
            torch.device(setting.device).type,
            dtype=getattr(torch, setting.dtype) if setting.dtype != "float32" else torch.bfloat16,
            enabled=setting.dtype != "float32",
        )

    def call() -> None:
        model.train(train)
        with _chosen(contender.implementation), torch.set_grad_enabled(train):
            with autocast():
                outputs = model(image)
                outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
            if train:
                sum(output.float().mean() for output in outputs).backward()
                model.zero_grad(set_to_none=True)

    return call


@contextmanager
def _chosen(implementation: str):
    if not implementation:
        yield
        return
    before = os.environ.get(ENVIRONMENT_VARIABLE)
    os.environ[ENVIRONMENT_VARIABLE] = implementation
    try:
        yield
    finally:
        if before is None:
            del os.environ[ENVIRONMENT_VARIABLE]
        else:
            os.environ[ENVIRONMENT_VARIABLE] = before


def _measure_memory(
    setting: Setting, contender: Contender, options: Mapping[str, Any]
) -> tuple[int | None, str]:
    try:
        peak = peak_memory(prepare_call, setting, contender, options, device=setting.device)
    except (ChildError, torch.OutOfMemoryError) as error:
        return None, f"not run: {error}"
    free = _free_memory()
    if torch.device(setting.device).type == "cpu" and free is not None and peak > 0.9 * free:
        return peak, f"not timed: needs {peak / MIB:.0f} MiB and {free / MIB:.0f} MiB are free"
    return peak, ""


def _free_memory() -> int | None:
    path = Path("/proc/meminfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _machine(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = platform.processor() or platform.machine()
    fields = {}
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        name = fields.get("model name", name)
        if "model" in fields and "cpu family" in fields:
            name += f" (family {fields['cpu family']} model {fields['model']})"
    return f"{name}, {cores} cores"


def _version_of(*distributions: str) -> str:
    for distribution in distributions:
        version = installed_version(distribution)
        if version is not None:
            return f"{distribution} {version}"
    return "not installed"
