"""Fit a config to the machine it runs on: a CPU without NCCL, SyncBN and float16."""

import datetime
import logging
import os
from typing import Any

import torch.distributed
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device

from mmeffvit.configs import convert, type_name, walk
from mmeffvit.engine.errors import LaunchError

_SYNC_NORMS = {"SyncBN": "BN", "MMSyncBN": "BN", "naiveSyncBN": "BN"}


def fit_to_device(cfg: Config, training: bool = True) -> list[tuple[int, str]]:
    """On a machine without an accelerator, replace what needs one, or say why that cannot be.

    Args:
        cfg: Changed in place.
        training: Whether the optimizer will be built.

    Returns:
        Messages for the log, each with its level.

    Raises:
        LaunchError: Mixed precision was asked for, or a launcher that needs GPUs.
    """
    if get_device() != "cpu":
        return []
    optim_wrapper = cfg.get("optim_wrapper") or {}
    if training and type_name(optim_wrapper) == "AmpOptimWrapper":
        raise LaunchError(
            "Mixed precision (--amp, optim_wrapper.type='AmpOptimWrapper') needs an accelerator, "
            "and PyTorch sees none here; train in float32 without it, or on a machine with a GPU."
        )
    if cfg.get("launcher", "none") == "none":
        return []
    notes = _replace_nccl(cfg)
    count = sum(_is_sync_norm(value) for _, value in walk(cfg.model))
    if count or cfg.get("sync_bn"):
        cfg.model, cfg.sync_bn = convert(cfg.model, _without_sync), None
        notes.append(
            (logging.WARNING, f"No GPU: {count or 'all'} SyncBN settings of the model became BN")
        )
    # mmengine would hand DistributedDataParallel a GPU index otherwise
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
        **(cfg.get("model_wrapper_cfg") or {}),
        "device_ids": None,
    }
    return notes


def _replace_nccl(cfg: Config) -> list[tuple[int, str]]:
    if cfg.launcher != "pytorch":
        raise LaunchError(
            f"--launcher {cfg.launcher} needs GPUs, and PyTorch sees none here; several processes "
            "on CPUs are started by tools/dist_train.sh CONFIG NUMBER."
        )
    env_cfg = cfg.setdefault("env_cfg", ConfigDict())
    backend = env_cfg.setdefault("dist_cfg", ConfigDict()).get("backend", "nccl")
    env_cfg.dist_cfg.backend = "gloo"
    if backend == "gloo":
        return []
    return [
        (logging.WARNING, f"No GPU: env_cfg.dist_cfg.backend became 'gloo' ({backend!r} before)")
    ]


def _is_sync_norm(value: Any) -> bool:
    return type_name(value) in _SYNC_NORMS


def _without_sync(value: Any) -> Any:
    return {**value, "type": _SYNC_NORMS[type_name(value)]} if _is_sync_norm(value) else value


def init_process_group(cfg: Config) -> None:
    """Join the other CPU processes; mmengine's own way ends at ``torch.cuda.set_device``."""
    if get_device() != "cpu" or cfg.get("launcher", "none") == "none":
        return
    missing = [key for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR") if key not in os.environ]
    if missing:
        raise LaunchError(
            f"--launcher pytorch expects {', '.join(missing)} in the environment, which "
            "tools/dist_train.sh sets; leave --launcher out for a single process."
        )
    if not torch.distributed.is_initialized():
        dist_cfg = (cfg.get("env_cfg") or {}).get("dist_cfg") or {}
        timeout = datetime.timedelta(seconds=dist_cfg.get("timeout", 1800))
        torch.distributed.init_process_group("gloo", timeout=timeout)
