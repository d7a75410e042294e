"""Reading and writing checkpoint files; no code in them runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmeffvit.errors import CheckpointError
from mmeffvit.files import read_training_state, whole_file


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """There is no such file."""


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a .safetensors file, or a PyTorch file with ``weights_only``, onto the CPU.

    Args:
        path: A file on disk.

    Raises:
        MissingCheckpointError: There is no such file.
        CheckpointError: It is truncated, not a checkpoint, or holds objects other than data.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingCheckpointError(
            f"there is no checkpoint at '{path}'; published weights begin with mmeffvit://, and "
            "tools/weights.py lists them"
        )
    if path.suffix == ".safetensors":
        checkpoint = _read_safetensors(path)
    else:
        checkpoint = read_training_state(path)
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(
            f"'{path}' holds a {type(checkpoint).__name__}, not a dict of weights or a training "
            "state"
        )
    return dict(checkpoint)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(
            f"'{path}' is truncated or not a safetensors file ({error}); copy or convert it again"
        ) from error


def write_checkpoint(
    state_dict: Mapping[str, Tensor],
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights as .safetensors or, for any other suffix, as ``dict(state_dict, meta)``.

    The file is whole or absent, on the disk too.

    Args:
        state_dict: Weights by key.
        path: Where to; the folder is made if need be.
        metadata: Words about the weights, such as where they come from.
    """
    path = Path(path)
    weights = {key: value.detach().cpu().contiguous() for key, value in state_dict.items()}
    with whole_file(path, durable=True) as scratch:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            # tensors that share memory cannot be saved as they are
            copies = {key: value.clone() for key, value in weights.items()}
            save_file(copies, scratch, dict(metadata or {}))
        else:
            torch.save({"state_dict": weights, "meta": dict(metadata or {})}, scratch)
