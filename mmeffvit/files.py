"""Files that are whole or as before, and files that are read without running what is in them."""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

# -- writing ---------------------------------------------------------------------------------------


@contextmanager
def whole_file(path: str | os.PathLike, durable: bool = False) -> Iterator[Path]:
    """Give a scratch file that takes the place of `path` when the block ends without an error.

    Folders are made. The scratch file lies in the same folder, under a hidden name with the same
    suffix, and is gone afterwards.

    Args:
        path: The file to write.
        durable: Its bytes, and its name, are on the disk when the block has ended: a power cut
            costs neither the old file nor the new one. The scratch file is called ``<path>.tmp``,
            which no reader takes for a file of its kind, and a later write overwrites what a
            killed one has left; so one process at a time may write it.

    >>> with whole_file(path) as scratch:
    ...     scratch.write_text(text)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = f".{path.stem}.tmp-{os.getpid()}{path.suffix}"
    scratch = path.with_name(f"{path.name}.tmp" if durable else hidden)
    try:
        yield scratch
        if durable:
            _sync(scratch, os.O_RDWR)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    if durable and os.name == "posix":  # folders cannot be opened elsewhere
        _sync(path.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- reading ---------------------------------------------------------------------------------------


class UnreadableError(ValueError):
    """A file is damaged or of another kind. The message goes on after the name of the file."""


class RefusedError(UnreadableError):
    """A file holds more than data, and none of it was run."""


def read_torch(path: str | os.PathLike, *allowed: type) -> Any:
    """Read what ``torch.save`` has written, onto the CPU; no code in it runs.

    Args:
        path: The file.
        *allowed: Types that may be in it, besides tensors, containers, numbers, text, and numpy
            arrays of these, of numpy 1 and 2.

    Raises:
        FileNotFoundError: There is no such file.
        RefusedError: It holds something else.
        UnreadableError: It is truncated, or not such a file.
    """
    import torch

    serialization = torch.serialization
    known = set(serialization.get_safe_globals())
    # what is allowed already stays so when the context ends
    # (an empty array is pickled as a call of bytes())
    extra = [entry for entry in (*numpy_globals(), bytes, *allowed) if entry not in known]
    try:
        with serialization.safe_globals(extra):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file raises anything
        text = str(error)
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in text:
            name = text.split("GLOBAL", 1)[1].split(". Please", 1)[0].splitlines()[0]
            raise RefusedError(f"holds more than data: GLOBAL{name}") from error
        reason = (text.splitlines() or [""])[0]
        if "Unsupported" in text:
            reason = "Unsupported" + text.split("Unsupported", 1)[1].splitlines()[0]
        raise UnreadableError(
            f"({os.path.getsize(path)} bytes) is truncated or not a file of torch.save: "
            f"{type(error).__name__}: {reason}"
        ) from error


def read_pickle(path: str | os.PathLike) -> Any:
    """Read a pickle of containers, numbers, text and numpy arrays of these; no code in it runs.

    Raises:
        FileNotFoundError: There is no such file.
        pickle.UnpicklingError: It holds something else.
        Exception: It is damaged; pickle raises anything.
    """
    with open(path, "rb") as file:
        return _DataUnpickler(file).load()


class _DataUnpickler(pickle.Unpickler):
    """Builds data, and refuses everything else."""

    #: what may be named besides numpy's
    _DATA: ClassVar = {
        "builtins": {"dict", "list", "tuple", "set", "frozenset", "int", "float", "complex"}
        | {"bool", "str", "bytes", "bytearray", "slice"},
        "collections": {"OrderedDict"},
        "_codecs": {"encode"},  # bytes in old protocols
        "numpy.core.numeric": {"_frombuffer"},  # arrays in new ones
        "numpy._core.numeric": {"_frombuffer"},
    }

    def find_class(self, module: str, name: str) -> Any:
        for kind, full_name in numpy_globals():
            if full_name == f"{module}.{name}":
                return kind
        module = module.replace("__builtin__", "builtins")
        if name not in self._DATA.get(module, ()):
            raise pickle.UnpicklingError(
                f"it names {module}.{name}; only containers, numbers and numpy arrays are let in"
            )
        return super().find_class(module, name)


@functools.lru_cache(maxsize=1)
def numpy_globals() -> tuple[tuple[Any, str], ...]:
    """What pickled arrays and scalars of numbers, truth values and text are made of, with names.

    Entries are as ``torch.serialization.add_safe_globals`` takes them.
    """
    import numpy as np

    core = np._core if hasattr(np, "_core") else np.core
    kinds = "?bhilqBHILQefdFDSU"  # no objects: those could hold anything
    return (
        *(
            (getattr(core.multiarray, name), f"numpy.{folder}.multiarray.{name}")
            for name in ("_reconstruct", "scalar")
            for folder in ("core", "_core")  # NumPy 1 and 2 write different ones, and read both
        ),
        *map(with_name, [np.ndarray, np.dtype, *dict.fromkeys(type(np.dtype(k)) for k in kinds)]),
    )


def with_name(kind: type) -> tuple[type, str]:
    """A type and the name that pickle writes for it."""
    return kind, f"{kind.__module__}.{kind.__qualname__}"
