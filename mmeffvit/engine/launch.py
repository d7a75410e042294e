"""From a command line to an mmengine Runner: what ``tools/train.py`` and ``tools/test.py`` share.

Every step is a function of a Config, so that it can be read, tested and used from other programs.
"""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmeffvit.engine.errors import LaunchError

_DATA_KEYS = tuple(
    f"{split}_{part}" for split in ("train", "val", "test") for part in ("dataloader", "evaluator")
)


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
        root, relative = Path(), name
    else:
        spec = find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise LaunchError(
                f"The config {name!r} names the package {package!r}, which is not installed; "
                "install it, or give the path of a config file."
            )
        root = Path(next(iter(spec.submodule_search_locations))) / ".mim" / "configs"
    path = root / relative
    if not path.is_file():
        raise LaunchError(_no_such_config(name, root, relative))
    return Config.fromfile(str(path))


def _no_such_config(name: str, root: Path, relative: str) -> str:
    search = root if root.parts else _nearest_folder(Path(relative))
    known = {path.relative_to(root).as_posix(): path.name for path in search.rglob("*.py")}
    wanted = Path(relative).name
    names = difflib.get_close_matches(wanted, set(known.values()), n=3, cutoff=0.6)
    close = sorted(path for path, file in known.items() if file in names)[:5]
    prefix = name.partition("::")[0] + "::" if "::" in name else ""
    hint = "; close matches: " + ", ".join(prefix + path for path in close) if close else ""
    where = "" if prefix else f" (looked for at {Path(relative).resolve()})"
    return f"There is no config {name!r}{where}{hint}."


def _nearest_folder(path: Path) -> Path:
    """The deepest existing folder above a path, but never the whole file system."""
    for parent in path.parents:
        if parent.is_dir() and parent.resolve() != Path(parent.resolve().anchor):
            return parent
    return Path("configs")


def apply_options(
    cfg: Config, options: Mapping[str, Any] | None = None, data_root: str | None = None
) -> None:
    """Merge ``--cfg-options`` and ``--data-root`` into a config.

    ``data_root=DIR`` among the options does what ``--data-root DIR`` does: in upstream configs the
    top-level ``data_root`` is only a name that the datasets were written with.
    """
    options = dict(options or {})
    data_root = data_root or options.pop("data_root", None)
    if data_root is not None:
        set_data_root(cfg, data_root)
    cfg.merge_from_dict(options)


def iter_datasets(dataset: Mapping | Sequence | None) -> Iterator[Mapping]:
    """The innermost dataset configs, whatever wrappers (RepeatDataset, ConcatDataset) hold them."""
    if isinstance(dataset, Mapping):
        inner = [dataset[key] for key in ("dataset", "datasets") if dataset.get(key) is not None]
        if not inner:
            yield dataset
        for item in inner:
            yield from iter_datasets(item)
    elif isinstance(dataset, Sequence) and not isinstance(dataset, str):
        for item in dataset:
            yield from iter_datasets(item)


def set_data_root(cfg: Config, data_root: str) -> None:
    """Move all datasets and the files that evaluators read to another folder.

    Args:
        cfg: Changed in place.
        data_root: The new folder, with the same layout as the old one.

    Raises:
        LaunchError: If the config has no ``data_root``, or several.
    """
    datasets = [
        dataset
        for key in _DATA_KEYS
        if key.endswith("dataloader") and cfg.get(key)
        for dataset in iter_datasets(cfg[key].get("dataset"))
    ]
    roots = {os.path.normpath(d["data_root"]) for d in datasets if d.get("data_root")}
    if len(roots) != 1:
        found = ", ".join(sorted(roots)) or "none"
        raise LaunchError(
            f"data_root={data_root!r} needs a config whose datasets share one data_root; found: "
            f"{found}. Set them one by one, such as --cfg-options train_dataloader.dataset.data_root=DIR."
        )
    (old,) = roots
    for key in (*_DATA_KEYS, "data_root"):
        if cfg.get(key) is not None:
            cfg[key] = _moved(cfg[key], old, data_root)


def _moved(value: Any, old: str, new: str) -> Any:
    """A copy of a config tree in which paths under the folder `old` lie under `new`."""
    if isinstance(value, Mapping):
        return ConfigDict({k: _moved(v, old, new) for k, v in value.items()})
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(v, old, new) for v in value)
    if isinstance(value, str):
        if value and os.path.normpath(value) == old:
            return new
        if value.startswith(old + "/"):
            return os.path.join(new, value[len(old) + 1 :])
    return value


def set_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Command line first, then the config, then ``work_dirs/<config name>``."""
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = os.path.join("work_dirs", Path(cfg.filename).stem)


def enable_amp(cfg: Config) -> None:
    """Train with automatic mixed precision."""
    kind = cfg.optim_wrapper.get("type", "OptimWrapper")
    if kind not in ("OptimWrapper", "AmpOptimWrapper"):
        raise LaunchError(
            f"--amp replaces optim_wrapper.type='OptimWrapper' by 'AmpOptimWrapper', but this "
            f"config has {kind!r}; set mixed precision in the config itself."
        )
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.setdefault("loss_scale", "dynamic")


def enable_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate by the real batch size over the one that it was chosen for."""
    if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
        raise LaunchError(
            "--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config, N being "
            "the total batch size that its learning rate was chosen for."
        )
    cfg.auto_scale_lr.enable = True


def build_runner(cfg: Config) -> Runner:
    """``Runner.from_cfg``, or what ``runner_type`` names."""
    return RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)


def draw_predictions(cfg: Config, show_dir: str) -> None:
    """Write a picture per test image into a folder, by mmdet's DetVisualizationHook."""
    hook = (cfg.get("default_hooks") or {}).get("visualization") or {}
    if hook.get("type") not in ("DetVisualizationHook", "mmdet.DetVisualizationHook"):
        raise LaunchError(
            "--show-dir draws with mmdet's hook, so the config needs "
            "default_hooks=dict(visualization=dict(type='DetVisualizationHook')); "
            f"found {hook.get('type')!r}."
        )
    # The hook joins a relative path to itself once more at every iteration.
    hook.update(draw=True, test_out_dir=os.path.abspath(show_dir))


def dump_predictions(cfg: Config, path: str) -> None:
    """Write all predictions of a test run to a pickle file, beside evaluating them."""
    name = "DumpDetResults" if cfg.get("default_scope") == "mmdet" else "DumpResults"
    evaluator = cfg.test_evaluator
    evaluators = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
    cfg.test_evaluator = [*evaluators, {"type": name, "out_file_path": path}]
