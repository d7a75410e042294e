"""From a command line to an mmengine Runner: what ``tools/train.py`` and ``tools/test.py`` share.

Every step is a function of a Config, so that it can be read, tested and used from other programs.
"""

import difflib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmeffvit.checkpoint import CheckpointError
from mmeffvit.configs import full_type, in_text, type_name
from mmeffvit.engine.data import set_data_root
from mmeffvit.engine.environment import init_process_group
from mmeffvit.engine.errors import InvalidLossError, LaunchError
from mmeffvit.engine.options import check_options
from mmeffvit.engine.weights import FitWeightsHook
from mmeffvit.files import RefusedError

Notes = list[tuple[int, str]]
"""Messages for the log, each with its level, from before there is a log."""


def load_config(name: str) -> Config:
    """Read a config from a file, or from an installed package by its upstream name.

    Args:
        name: A path, or ``'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'`` (also ``mmseg::``,
            ``mmpretrain::``, ``mmeffvit::``).

    Raises:
        LaunchError: If there is no such config; close matches are named.
    """
    package, separator, relative = name.partition("::")
    if not separator:
        path = Path(name)
        if path.is_file():
            return in_text(Config.fromfile(name))
        folder = next((parent for parent in path.parents if parent.is_dir()), Path())
        close = _close_matches(path.name, [*folder.glob("*.py"), *Path("configs").rglob("*.py")])
        raise LaunchError(f"There is no config {name!r} (looked for at {path.resolve()}){close}.")

    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise LaunchError(
            f"The config {name!r} names the package {package!r}, which is not installed; "
            "install it, or give the path of a config file."
        )
    root = Path(next(iter(spec.submodule_search_locations)), ".mim", "configs")
    if (root / relative).is_file():
        return in_text(Config.fromfile(str(root / relative)))
    known = [path.relative_to(root) for path in root.rglob("*.py")]
    close = _close_matches(Path(relative).name, known, prefix=f"{package}::")
    raise LaunchError(f"There is no config {name!r}{close}.")


def _close_matches(name: str, known: Iterable[Path], prefix: str = "") -> str:
    by_name: dict[str, set[str]] = {}
    for path in known:
        by_name.setdefault(path.name, set()).add(prefix + path.as_posix())
    names = difflib.get_close_matches(name, by_name, n=3)
    return "; close matches: " + ", ".join(min(by_name[n]) for n in names) if names else ""


def apply_options(
    cfg: Config, options: Mapping[str, Any] | None = None, data_root: str | None = None
) -> None:
    """Merge ``--cfg-options`` and ``--data-root`` into a config.

    ``data_root=DIR`` among the options does what ``--data-root DIR`` does: in upstream configs the
    top-level ``data_root`` is only a name that the datasets were written with. Options that change
    nothing are named in a warning.

    Raises:
        LaunchError: An option is misspelt, or the data root cannot be set.
    """
    options = dict(options or {})
    data_root = data_root or options.pop("data_root", None)
    if data_root is not None:
        set_data_root(cfg, str(data_root))
    for doubt in check_options(cfg, options):
        print_log(f"--cfg-options {doubt}", logger="current", level=logging.WARNING)
    cfg.merge_from_dict(options)


def set_work_dir(cfg: Config, work_dir: str | None = None) -> None:
    """Command line first, then the config, then ``work_dirs/<config name>``."""
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = os.path.join("work_dirs", Path(cfg.filename).stem)


def enable_amp(cfg: Config) -> None:
    """Train with automatic mixed precision."""
    kind = full_type(cfg.optim_wrapper) or "OptimWrapper"
    if kind.rpartition(".")[2] not in ("OptimWrapper", "AmpOptimWrapper"):
        raise LaunchError(
            "--amp replaces optim_wrapper.type='OptimWrapper' by 'AmpOptimWrapper', but this "
            f"config has {kind!r}; set mixed precision in the config itself."
        )
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.setdefault("loss_scale", "dynamic")


def enable_compile(cfg: Config) -> None:
    """Train with a compiled backbone, by `CompileBackboneHook`; a config's own stays."""
    hooks = list(cfg.get("custom_hooks") or [])
    if "CompileBackboneHook" not in map(type_name, hooks):
        cfg.custom_hooks = [*hooks, {"type": "mmeffvit.CompileBackboneHook"}]


def enable_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate by the real batch size over the one that it was chosen for."""
    if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
        raise LaunchError(
            "--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config, N being "
            "the total batch size that its learning rate was chosen for."
        )
    cfg.auto_scale_lr.enable = True


def add_safety_hooks(cfg: Config) -> Notes:
    """Give any config, upstream ones too, what ``configs/_base_/default_runtime.py`` has.

    That is SafeCheckpointHook in place of CheckpointHook, ReproducibleResumeHook and
    CheckInvalidLossHook. A config that has a hook of these names keeps its own.
    """
    added = []
    checkpoint = cfg.setdefault("default_hooks", ConfigDict()).setdefault("checkpoint", {})
    # None switches checkpoints off
    if checkpoint is not None and type_name(checkpoint) in ("", "CheckpointHook"):
        cfg.default_hooks.checkpoint = {"interval": 1, **checkpoint}
        cfg.default_hooks.checkpoint.type = "mmeffvit.SafeCheckpointHook"
        added.append("SafeCheckpointHook")
    hooks = list(cfg.get("custom_hooks") or [])
    present = set(map(type_name, hooks))
    for name in ("ReproducibleResumeHook", "CheckInvalidLossHook"):
        if name not in present:
            hooks.append({"type": f"mmeffvit.{name}"})
            added.append(name)
    cfg.custom_hooks = hooks
    return (
        [(logging.INFO, "Hooks added to those of the config: " + ", ".join(added))] if added else []
    )


def set_seed(cfg: Config) -> Notes:
    """Without a seed no run can be repeated, or resumed as if it had not been interrupted."""
    randomness = cfg.get("randomness") or {}
    if randomness.get("seed") is not None:
        return []
    cfg.randomness = {**randomness, "seed": 0}
    return [(logging.INFO, "randomness.seed=0, as the config sets none")]


def add_toolbox_defaults(cfg: Config) -> None:
    """Fill in what mmpretrain's configs leave to mmpretrain's own launchers.

    That is the model's data preprocessor, which stands beside the model, and dataloaders that stack
    samples to tensors. What a config says itself counts. Configs of other toolboxes are whole.
    """
    if cfg.get("default_scope") != "mmpretrain":
        return
    cfg.model.setdefault("data_preprocessor", cfg.get("data_preprocessor"))
    for split in ("train", "val", "test"):
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            loader.setdefault("collate_fn", {"type": "default_collate"})
            loader.setdefault("pin_memory", get_device() != "cpu")
            loader.setdefault("persistent_workers", loader.get("num_workers", 0) > 0)


def build_runner(cfg: Config, notes: Notes = ()) -> Runner:
    """``Runner.from_cfg``, or what ``runner_type`` names; `notes` begin its log."""
    add_toolbox_defaults(cfg)
    init_process_group(cfg)
    runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
    runner.register_hook(FitWeightsHook())
    count = (cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1)
    if count > 1:
        runner.scale_lr = functools.partial(_scale_lr, runner.scale_lr, count)
    for level, message in notes:
        runner.logger.log(level, message)
    return runner


def _scale_lr(
    scale: Callable, count: int, optim_wrapper: Any, auto_scale_lr: Mapping | None = None
) -> None:
    """mmengine's ``Runner.scale_lr``, which does not know that a step takes `count` batches."""
    if auto_scale_lr and auto_scale_lr.get("enable") and "base_batch_size" in auto_scale_lr:
        size = auto_scale_lr["base_batch_size"]
        print_log(
            f"Each step takes {count} batches (accumulative_counts), so the rate is scaled as for "
            f"batches {count} times as large: base_batch_size {size} counts as {size / count:g}",
            logger="current",
        )
        auto_scale_lr = {**auto_scale_lr, "base_batch_size": size / count}
    scale(optim_wrapper, auto_scale_lr)


def exit_with_sentence(main: Callable[[], Any]) -> None:
    """Run a tool; what its user can put right is printed as a sentence, without a traceback.

    The exit status is 2 if the run could not start as asked, and 1 if it went wrong later.
    """
    try:
        main()
    except (LaunchError, CheckpointError, RefusedError, InvalidLossError) as error:
        # one process speaks for all of them when they cannot start
        if isinstance(error, InvalidLossError) or os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, InvalidLossError) else 2)
