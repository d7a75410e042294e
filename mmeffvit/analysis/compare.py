"""Which backbone for one's own data: each in one config, trained for one budget, and measured.

A run is one backbone; :func:`run_backbone` carries it out, in a process of its own or on a cluster,
and returns a row of the table. What is equal for all: data, recipe, seed, budget, and a schedule
that fits the budget.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import mmeffvit
from mmeffvit import compat
from mmeffvit.analysis.backbones import parse_spec
from mmeffvit.analysis.benchmark import describe_environment, time_in_turn
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.analysis.memory import MIB, memory_during
from mmeffvit.analysis.results import ENVIRONMENT_COLUMNS
from mmeffvit.configs import type_name, walk
from mmeffvit.engine import launch
from mmeffvit.engine.errors import LaunchError
from mmeffvit.files import whole_file
from mmeffvit.swap import swap_backbone
from mmeffvit.swap.recipe import set_recipe

OWN = "config"
"""The name of the backbone that the config itself has."""

IDENTITY = (
    *("backbone", "config", "dataset", "data_root", "recipe", "budget", "seed", "device"),
    "options",
)
COLUMNS = (
    *IDENTITY,
    "status",
    "metric",
    "value",
    "latency_ms",
    "memory_mib",
    "params_m",
    "backbone_gmacs",
    "iterations",
    "seconds",
    "metrics",
    "reason",
    *ENVIRONMENT_COLUMNS,
)
"""``memory_mib`` is the peak of training above what was in use before; ``latency_ms`` that of one
image through the whole model, boxes or label map included; ``metrics`` is JSON."""

#: what tells models apart, the first that an evaluation gives
METRICS = ("coco/segm_mAP", "coco/bbox_mAP", "pascal_voc/mAP", "mIoU", "accuracy/top1")
#: share of a budget in which the learning rate rises, and iterations that tell how long one takes
_WARM_UP, _PROBE, _SETTLING = 0.05, 12, 4
_ROUNDS = 10


@dataclass(frozen=True)
class Budget:
    """How long each backbone is trained: ``'20min'``, ``'2h'``, ``'90s'`` or ``'5000iters'``.

    Attributes:
        text: As given.
        iterations: A number of steps, or None.
        seconds: A time, or None.
    """

    text: str
    iterations: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a budget.

        Raises:
            LaunchError: It is neither a time nor a number of iterations.
        """
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*_?(s|min|h|iters|its?)?", text.strip())
        value, unit = (float(match[1]), match[2]) if match else (0.0, None)
        scales = {"s": 1, "min": 60, "h": 3600}
        if unit in scales and value > 0:
            return cls(text, seconds=value * scales[unit])
        if unit is not None and unit not in scales and value >= 1 and value == int(value):
            return cls(text, iterations=int(value))
        raise LaunchError(
            f"The budget {text!r} is neither a time (90s, 20min, 2h) nor a number of iterations "
            "(5000iters)."
        )


@dataclass(frozen=True)
class Job:
    """All that a run needs, in types that travel to another process.

    Attributes:
        backbone: A name, with arguments after a colon (see
            :func:`mmeffvit.analysis.backbones.parse_spec`), or ``'config'``: the config's own.
        config: File, or upstream name.
        work_dir: Of this run.
        budget: See `Budget`.
        dataset: A folder for ``set_dataset``, or ''.
        data_root: Where the config's own data sets lie, or ''.
        recipe: ``'adamw'`` or ``'keep'``, for all backbones alike.
        seed: Of weights and data.
        device: ``'cpu'`` or ``'cuda'``.
        metric: Its key, or '' for the first of `METRICS` that there is.
        options: Entries of the config, as of ``--cfg-options``.
    """

    backbone: str
    config: str
    work_dir: str
    budget: str
    dataset: str = ""
    data_root: str = ""
    recipe: str = "adamw"
    seed: int = 0
    device: str = "cpu"
    metric: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two rows results of the same run."""
        return tuple(str(getattr(self, name)) for name in IDENTITY)


def make_jobs(backbones: Iterable[str], folder: Path, **common: Any) -> list[Job]:
    """One job per backbone, each with a work directory of its own below `folder`.

    Runs of another budget, recipe or seed do not share it: none goes on from a checkpoint of
    another.
    """
    jobs = []
    for backbone in dict.fromkeys(backbones):
        job = Job(backbone, work_dir="", **common)
        digest = hashlib.sha256(repr(job.identity).encode()).hexdigest()[:8]
        name = re.sub(r"[^\w.=-]+", "_", backbone)[:70]
        jobs.append(dataclasses.replace(job, work_dir=str(folder / f"{name}_{digest}")))
    return jobs


# -- a run -----------------------------------------------------------------------------------------


def run_backbone(job: Job) -> dict[str, str]:
    """Train, evaluate and time one backbone.

    Returns:
        A row; one with ``status`` ``'failed'`` and the reason if it went wrong.
    """
    row = dict.fromkeys(COLUMNS, "")
    row.update(zip(IDENTITY, job.identity))
    try:
        row.update(describe_environment(job.device))
        row.update(_measure(job), status="ok")
    except Exception as error:  # a backbone that fails is a result, and the others go on
        lines = str(error).strip().splitlines() or [""]
        row.update(status="failed", reason=f"{type(error).__name__}: {lines[0]}")
    return row


def _measure(job: Job) -> dict[str, str]:
    compat.setup()
    work_dir, budget = Path(job.work_dir), Budget.parse(job.budget)
    iterations = budget.iterations or _iterations_for(job, budget, work_dir)
    cfg = prepare(job, iterations, work_dir)
    resumed = cfg.resume = (work_dir / "last_checkpoint").is_file()
    runner = launch.build_runner(cfg)
    start = time.perf_counter()
    memory = memory_during(runner.train, job.device)
    seconds = time.perf_counter() - start
    metrics = {k: float(v) for k, v in runner.val_loop.run().items() if _is_number(v)}
    metrics = metrics or nothing_found(cfg.val_evaluator)
    metric = job.metric or next((key for key in METRICS if key in metrics), "")
    if metric not in metrics:
        raise LaunchError(
            f"The evaluation gives {', '.join(metrics) or 'no number'}"
            + (f", and no {metric!r}." if metric else "; name one of them by --metric.")
        )
    sample = runner.val_loop.dataloader.dataset[0]
    batch = runner.val_loop.dataloader.collate_fn([sample])
    size = tuple(batch["inputs"][0].shape[-2:])
    model = runner.model.eval()
    return {
        "metric": metric,
        "value": f"{metrics[metric]:.4f}",
        "metrics": json.dumps(metrics),
        "latency_ms": f"{1e3 * latency(model, batch, job.device):.2f}",
        "memory_mib": "" if memory is None else f"{memory / MIB:.0f}",
        "params_m": f"{sum(p.numel() for p in model.parameters()) / 1e6:.3f}",
        "backbone_gmacs": _gmacs(model, size),
        "iterations": str(iterations),
        "seconds": f"{seconds:.1f}",
        "reason": "resumed: seconds and memory are those of the last part" * resumed,
    }


def prepare(job: Job, iterations: int, work_dir: Path) -> Config:
    """The config of a run: data, backbone, recipe, budget and seed are set."""
    cfg = launch.load_config(job.config)
    if job.dataset:
        cfg = mmeffvit.set_dataset(cfg, job.dataset)
    name, arguments = parse_spec(job.backbone)
    if name == OWN:
        cfg = set_recipe(cfg, job.recipe)
        for backbone in _backbones(cfg):
            backbone.update(arguments)
    else:
        cfg = swap_backbone(cfg, name, recipe=job.recipe, **arguments)
    _start_at_random(cfg, named=arguments)
    launch.apply_options(cfg, dict(job.options), job.data_root or None)
    set_budget(cfg, iterations)
    cfg.work_dir = str(work_dir)
    cfg.launcher = "none"
    cfg.randomness = {**(cfg.get("randomness") or {}), "seed": job.seed}
    launch.add_safety_hooks(cfg)
    if job.device == "cpu":
        cfg.env_cfg = {**(cfg.get("env_cfg") or {}), "cudnn_benchmark": False}
    return cfg


def nothing_found(evaluator: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The scores of a detector that finds nothing, for which mmdet gives no numbers."""
    metrics = [evaluator] if isinstance(evaluator, Mapping) else evaluator
    kinds = [m.get("metric", "bbox") for m in metrics if type_name(m) == "CocoMetric"]
    names = [name for kind in kinds for name in ([kind] if isinstance(kind, str) else kind)]
    return {f"coco/{name}_mAP": 0.0 for name in names if name in ("bbox", "segm")}


def _backbones(cfg: Config) -> list[Any]:
    return [entry for place, entry in walk(cfg.model) if place[-1:] == ("backbone",)]


def _start_at_random(cfg: Config, named: Mapping[str, Any]) -> None:
    """Take weights away from backbones, those of the config and of other libraries alike.

    Args:
        cfg: Of the run.
        named: Arguments that a user has given; weights among them stay.
    """
    for backbone in _backbones(cfg):
        if "init_cfg" not in named and type_name(backbone.get("init_cfg")) == "Pretrained":
            backbone.pop("init_cfg")
        if "pretrained" not in named and backbone.get("pretrained"):
            backbone["pretrained"] = False


def set_budget(cfg: Config, iterations: int) -> None:
    """Train for so many iterations, at rates that rise in the first 5 % and fall as a cosine to 0.

    The schedule of the config gives way, as its milestones are of another length; its validation
    gives way to one at the end.
    """
    warm_up = max(1, round(_WARM_UP * iterations))
    cfg.train_cfg = {
        "type": "IterBasedTrainLoop",
        "max_iters": iterations,
        "val_interval": iterations + 1,
    }
    cfg.param_scheduler = [
        {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": warm_up},
        {
            "type": "CosineAnnealingLR",
            "by_epoch": False,
            "begin": warm_up,
            "end": iterations,
            "T_max": max(1, iterations - warm_up),
            "eta_min": 0.0,
        },
    ]
    cfg.log_processor = {**(cfg.get("log_processor") or {}), "by_epoch": False}
    hooks = cfg.setdefault("default_hooks", {})
    hooks["checkpoint"] = {
        "type": "mmeffvit.SafeCheckpointHook",
        "by_epoch": False,
        "interval": max(1, math.ceil(iterations / 4)),
        "max_keep_ckpts": 1,
    }
    cfg.load_from = None


def _iterations_for(job: Job, budget: Budget, work_dir: Path) -> int:
    """Iterations that fit a time: a few are timed, once per run."""
    known = _notes(work_dir).get("iterations")
    if known:
        return int(known)
    cfg = prepare(job, _PROBE, work_dir / "probe")
    cfg.default_hooks.checkpoint = None
    cfg.resume = False
    clock = _Clock()
    runner = launch.build_runner(cfg)
    runner.register_hook(clock)
    runner.train()
    per_iteration = (clock.times[-1] - clock.times[_SETTLING - 1]) / (_PROBE - _SETTLING)
    iterations = max(1, round(budget.seconds / per_iteration))
    _note(work_dir, iterations=iterations)
    return iterations


class _Clock(Hook):
    """Notes when iterations end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Note the time."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def _notes(work_dir: Path) -> dict[str, Any]:
    path = work_dir / "budget.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _note(work_dir: Path, **values: Any) -> None:
    notes = {**_notes(work_dir), **values}
    with whole_file(work_dir / "budget.json") as scratch:
        scratch.write_text(json.dumps(notes) + "\n")


def latency(model: torch.nn.Module, batch: Mapping[str, Any], device: str) -> float:
    """Median seconds of ``model.test_step`` on a batch, after two calls that are not counted."""

    def call() -> None:
        with torch.no_grad():
            model.test_step(batch)

    synchronize = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    times = time_in_turn({"model": call}, _ROUNDS, warmup=2, synchronize=synchronize)["model"]
    return sorted(times)[len(times) // 2]


def _gmacs(model: torch.nn.Module, size: tuple[int, int]) -> str:
    backbone = getattr(model, "backbone", None)
    if backbone is None:
        return ""
    try:
        return f"{count_complexity(backbone, size).total_macs / 1e9:.3f}"
    except Exception:  # some networks of others do not run on the meta device
        return ""


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


# -- many runs -------------------------------------------------------------------------------------


def run_jobs(
    jobs: Sequence[Job], folder: Path, cluster: str = "local", **parameters: Any
) -> Iterator[tuple[Job, dict[str, str]]]:
    """Carry jobs out through submitit: one after the other here, all at once on a cluster.

    Args:
        jobs: What to run.
        folder: Gets submitit's files, logs among them.
        cluster: ``'local'``, each in a process of its own; ``'debug'``, in this one; ``'slurm'``.
        **parameters: Of submitit's executor: ``timeout_min``, ``slurm_partition``, ...

    Yields:
        Each job with its row, as it ends.

    Raises:
        LaunchError: submitit is not installed, there is no such cluster, or it refuses a job.
    """
    try:
        import submitit
    except ImportError as error:
        raise LaunchError(
            f"Runs go through submitit ({error}); it is in the extra 'data': pip install submitit"
        ) from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    except (RuntimeError, ValueError) as error:
        raise LaunchError(f"Nothing can be submitted to {cluster!r}: {error}") from error
    executor.update_parameters(**parameters)
    if cluster == "slurm":
        try:
            submitted = {executor.submit(run_backbone, job): job for job in jobs}
        except submitit.core.utils.FailedJobError as error:
            raise LaunchError(f"SLURM refused a job: {error}") from error
        for handle in submitit.helpers.as_completed(list(submitted)):
            yield submitted[handle], _result(handle, submitted[handle])
    else:
        for job in jobs:
            yield job, _result(executor.submit(run_backbone, job), job)


def _result(handle: Any, job: Job) -> dict[str, str]:
    """The row of a job; one that says why if its process has gone without a result."""
    try:
        return handle.result()
    except Exception as error:  # submitit's own, and what a cluster may raise
        row = dict.fromkeys(COLUMNS, "")
        row.update(zip(IDENTITY, job.identity), status="failed")
        row["reason"] = f"{type(error).__name__}: {_reason(error)} (log: {handle.paths.stderr})"
        return row


def _reason(error: Exception) -> str:
    """The line of submitit's message that says why: it quotes a traceback, or a log, and paths."""
    text = str(error).partition("You can check full logs")[0]
    lines = [line.strip(" -") for line in text.splitlines() if line.strip(" -")] or [""]
    return next((line for line in lines if "has not produced any output" in line), lines[-1])
