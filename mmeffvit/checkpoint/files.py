"""Reading and writing checkpoint files; no code in them runs."""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or is not what was asked for; the message says what to do."""


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
            f"there is no checkpoint at '{path}'; files are not downloaded here"
        )
    if path.suffix == ".safetensors":
        checkpoint = _read_safetensors(path)
    else:
        checkpoint = _read_torch(path)
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


def _read_torch(path: Path) -> Any:
    try:
        # published training states keep their command line in an argparse.Namespace: data, no code
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            reason = str(error).splitlines()[0]
            if "GLOBAL" in str(error):
                reason = "GLOBAL" + str(error).split("GLOBAL", 1)[1].splitlines()[0]
            raise CheckpointError(
                f"'{path}' holds more than data, or is not a PyTorch file, and was not loaded: "
                f"{reason}. Save its weights alone with torch.save(state_dict) where you trust it"
            ) from error
        raise _truncated(path, error) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise _truncated(path, error) from error


def _truncated(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return CheckpointError(
        f"'{path}' ({path.stat().st_size} bytes) is truncated or not a checkpoint: {reason}; "
        "copy it again, or use an earlier one"
    )


def write_checkpoint(
    state_dict: Mapping[str, Tensor],
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights as .safetensors or, for any other suffix, as ``dict(state_dict, meta)``.

    The file is whole or absent: it is written under another name and moved into place.

    Args:
        state_dict: Weights by key.
        path: Where to; the folder is made if need be.
        metadata: Words about the weights, such as where they come from.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in state_dict.items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            # tensors that share memory cannot be saved as they are
            save_file(
                {key: value.clone() for key, value in weights.items()},
                temporary,
                dict(metadata or {}),
            )
        else:
            torch.save({"state_dict": weights, "meta": dict(metadata or {})}, temporary)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
