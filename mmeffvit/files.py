"""Files that are whole or as before, and files that are read without running what is in them."""

from __future__ import annotations

import argparse
import datetime
import functools
import io
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, ClassVar

from mmeffvit.errors import CheckpointError

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

#: environment variable with files, and folders of files, of one's own, between colons (on Windows
#: semicolons): what is in them may run
TRUSTED_FILES = "MMEFFVIT_TRUSTED_FILES"
#: what to do about a file that holds more than data
ADVICE = (
    "Nothing in it was run. If it is your own, save its data alone, or name it in the environment "
    f"variable {TRUSTED_FILES}, and what is in it will run"
)


class UnreadableError(ValueError):
    """A file is damaged or of another kind. The message goes on after the name of the file."""


class RefusedError(UnreadableError):
    """A file holds more than data, and none of it was run."""


def is_trusted(file: Any) -> bool:
    """Whether a file, a folder above it, or a URL is named in `MMEFFVIT_TRUSTED_FILES`."""
    named = [n for n in re.split(rf"{os.pathsep}(?!//)", os.environ.get(TRUSTED_FILES, "")) if n]
    if not named or not isinstance(file, (str, os.PathLike)):
        return False
    path = Path(file).resolve()
    return os.fspath(file) in named or any(path.is_relative_to(Path(n).resolve()) for n in named)


def read_torch(file: Any, *allowed: type | tuple[Any, str], map_location: Any = "cpu") -> Any:
    """Read what ``torch.save`` has written; no code in it runs.

    Args:
        file: Its path, or a file that is open for reading.
        *allowed: Types that may be in it, besides tensors, containers, numbers, text, and numpy
            arrays of these, of numpy 1 and 2; a pair is what takes the place of a name.
        map_location: Of ``torch.load``.

    Raises:
        FileNotFoundError: There is no such file.
        RefusedError: It holds something else.
        UnreadableError: It is truncated, or not such a file.
    """
    import torch

    if is_trusted(file):
        return torch.load(file, map_location=map_location, weights_only=False)
    try:
        with letting_in(*allowed):
            return torch.load(file, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file raises anything
        text = str(error)
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in text:
            raise RefusedError(f"holds more than data: {_refused_name(error)}") from error
        reason = (text.splitlines() or [""])[0]
        if "Unsupported" in text:
            reason = "Unsupported" + text.split("Unsupported", 1)[1].splitlines()[0]
        raise UnreadableError(
            f"({_size(file)} bytes) is truncated or not a file of torch.save: "
            f"{type(error).__name__}: {reason}"
        ) from error


def read_training_state(file: Any, map_location: Any = "cpu") -> Any:
    """Read a checkpoint of any library; no code in it runs.

    Objects in which libraries keep settings come as plain data: dicts, namespaces and text.

    Args:
        file: Its path, or a file that is open for reading.
        map_location: Of ``torch.load``.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It holds more than data, is truncated, or not a checkpoint.
    """
    name = f"'{file}'" if isinstance(file, (str, os.PathLike)) else "the checkpoint"
    try:
        return read_torch(file, *rebuilt_as_data(), map_location=map_location)
    except RefusedError as error:
        raise CheckpointError(f"{name} {error}. {ADVICE}.") from error
    except UnreadableError as error:
        raise CheckpointError(f"{name} {error}; copy it again, or use an earlier one") from error


def read_training_state_from(url: str, *args: Any, **kwargs: Any) -> Any:
    """`read_training_state` of what ``torch.hub.load_state_dict_from_url`` fetches.

    Raises:
        CheckpointError: It holds more than data.
    """
    from torch.hub import load_state_dict_from_url

    if is_trusted(url):
        return load_state_dict_from_url(url, *args, weights_only=False, **kwargs)
    try:
        with letting_in(*rebuilt_as_data()):
            return load_state_dict_from_url(url, *args, weights_only=True, **kwargs)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{url} holds more than data: {_refused_name(error)}. {ADVICE}."
        ) from error


@contextmanager
def letting_in(*allowed: type | tuple[Any, str]) -> Iterator[None]:
    """Let ``torch.load(weights_only=True)`` build numpy's arrays and the types given."""
    import torch

    serialization = torch.serialization
    named = [with_name(entry) if isinstance(entry, type) else entry for entry in allowed]
    # what is allowed already stays so when the context ends
    # (an empty array is pickled as a call of bytes())
    known = serialization.get_safe_globals()
    names = {entry[1] if isinstance(entry, tuple) else with_name(entry)[1] for entry in known}
    entries = (*numpy_globals(), with_name(bytes), *named)
    with serialization.safe_globals([entry for entry in entries if entry[1] not in names]):
        yield


def _refused_name(error: Exception) -> str:
    """What torch did not let in, from its own long message."""
    name = str(error).rpartition("GLOBAL")[2].split(". Please", 1)[0].strip()
    return f"GLOBAL {(name.splitlines() or [''])[0]}"


def _size(file: Any) -> int:
    if isinstance(file, (str, os.PathLike)):
        return os.path.getsize(file)
    return file.seek(0, os.SEEK_END)


def read_pickle(file: Any, **kwargs: Any) -> Any:
    """Read a pickle of containers, numbers, text, arrays and tensors of these; no code in it runs.

    Args:
        file: Its path, or a file that is open for reading.
        **kwargs: Of ``pickle.load``, such as `encoding`.

    Raises:
        FileNotFoundError: There is no such file.
        pickle.UnpicklingError: It holds something else.
        Exception: It is damaged; pickle raises anything.
    """
    if not isinstance(file, (str, os.PathLike)):
        return _DataUnpickler(file, **kwargs).load()
    reader = pickle.Unpickler if is_trusted(file) else _DataUnpickler
    with open(file, "rb") as opened:
        return reader(opened, **kwargs).load()


def read_array(path: str | os.PathLike) -> Any:
    """Read what ``numpy.load`` reads with ``allow_pickle=True``; no code in it runs.

    Raises:
        FileNotFoundError: There is no such file.
        RefusedError: It holds something else than numbers, text and containers.
        UnreadableError: It is damaged.
    """
    import numpy as np

    if is_trusted(path):
        return np.load(path, allow_pickle=True)
    try:
        try:
            return np.load(path, allow_pickle=False)
        except ValueError:  # objects, or a pickle without numpy's header
            return _read_objects(path)
    except FileNotFoundError:
        raise
    except _NotDataError as error:
        raise RefusedError(f"'{path}' holds more than data: {error}.") from error
    except Exception as error:  # a damaged file raises anything
        reason = f"{type(error).__name__}: {error}"
        raise UnreadableError(f"'{path}' is no array, or damaged: {reason}") from error


def _read_objects(path: str | os.PathLike) -> Any:
    from numpy.lib import format as npy

    with open(path, "rb") as file:
        if file.read(len(npy.MAGIC_PREFIX)) != npy.MAGIC_PREFIX:
            file.seek(0)
            return read_pickle(file)
        file.seek(0)
        headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, _, _ = headers[npy.read_magic(file)](file)
        return read_pickle(file).reshape(shape)


class _NotDataError(pickle.UnpicklingError):
    """A pickle is whole, as far as it was read, and names something that is no data."""


class _DataUnpickler(pickle.Unpickler):
    """Builds data, and refuses everything else."""

    #: what may be named besides numpy's, and what is rebuilt
    _DATA: ClassVar = {
        "builtins": {"set", "frozenset", "complex", "bytes", "bytearray", "slice"},
        "collections": {"OrderedDict"},
        "_codecs": {"encode"},  # bytes in old protocols
        "numpy.core.numeric": {"_frombuffer"},  # arrays in new ones
        "numpy._core.numeric": {"_frombuffer"},
        "torch": {"Size", "device"},
        "torch._utils": {"_rebuild_tensor_v2", "_rebuild_parameter"},
        # predictions and proposals that mmengine has dumped
        "mmengine.structures.base_data_element": {"BaseDataElement"},
        "mmengine.structures.instance_data": {"InstanceData"},
        "mmengine.structures.label_data": {"LabelData"},
        "mmengine.structures.pixel_data": {"PixelData"},
    }

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("__builtin__", "builtins")
        for kind, full_name in (*numpy_globals(), *rebuilt_as_data()):
            if full_name == f"{module}.{name}":
                return kind
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _storage_from_bytes
        if name not in self._DATA.get(module, ()):
            raise _NotDataError(
                f"it names {module}.{name}; only containers, numbers and arrays are let in. "
                f"{ADVICE}"
            )
        return super().find_class(module, name)


def _storage_from_bytes(content: bytes) -> Any:
    """What torch's function of a similar name gives, which loads without looking."""
    return read_torch(io.BytesIO(content))


class _Dict:
    """Stands for a library's own dict while a file is read, and gives one of Python's."""

    def __new__(cls, *args: Any) -> OrderedDict:
        return OrderedDict(*(arg for arg in args if isinstance(arg, Mapping)))


class _Config(argparse.Namespace):
    """Stands for a whole config of mmcv or mmengine while a file is read: what was in it."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _path_text(*parts: str) -> str:
    return os.fspath(PurePath(*parts))


@functools.lru_cache(maxsize=1)
def rebuilt_as_data() -> tuple[tuple[Any, str], ...]:
    """What checkpoints hold beside weights, by name, and plain data that takes its place.

    Entries are as ``torch.serialization.add_safe_globals`` takes them.
    """
    dicts = (
        "addict.addict.Dict",
        "collections.defaultdict",
        "detectron2.config.config.CfgNode",
        "easydict.EasyDict",
        "fvcore.common.config.CfgNode",
        "mmcv.utils.config.ConfigDict",
        "mmengine.config.config.ConfigDict",
        "yacs.config.CfgNode",
    )
    paths = ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    return (
        *((_Dict, name) for name in dicts),
        (_Config, "mmcv.utils.config.Config"),
        (_Config, "mmengine.config.config.Config"),
        *((_path_text, f"{home}.{n}") for home in ("pathlib", "pathlib._local") for n in paths),
        # published training states keep their command line in a namespace
        *((argparse.Namespace, n) for n in ("argparse.Namespace", "types.SimpleNamespace")),
        *map(with_name, (datetime.datetime, datetime.timedelta)),
        *map(with_name, (dict, list, tuple, int, float, bool, str)),  # factories of defaultdicts
    )


@functools.lru_cache(maxsize=1)
def numpy_globals() -> tuple[tuple[Any, str], ...]:
    """What pickled arrays and scalars of numbers, truth values and text are made of, with names.

    Entries are as ``torch.serialization.add_safe_globals`` takes them.
    """
    import numpy as np

    # the last ones of NumPy 1 have an empty _core as well
    core = np._core if hasattr(np, "_core") and hasattr(np._core, "multiarray") else np.core
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
