"""Lists of samples, from JSON or from mmdet3d's pickle files, without running code in them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import IO, Any

from mmeffvit.compat.checkpoint import numpy_globals

#: what is not of numpy's
_ALLOWED = {
    "builtins": {"dict", "list", "tuple", "set", "frozenset", "int", "float", "complex", "bool"}
    | {"str", "bytes", "bytearray", "slice"},
    "collections": {"OrderedDict"},
    "_codecs": {"encode"},  # bytes in old protocols
    "numpy.core.numeric": {"_frombuffer"},  # arrays in new ones
    "numpy._core.numeric": {"_frombuffer"},
}


class _DataUnpickler(pickle.Unpickler):
    """Builds containers, numbers and arrays of numbers, and refuses everything else."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file)
        self._numpy = {}
        for entry in numpy_globals():
            kind, name = entry if isinstance(entry, tuple) else (entry, _full_name(entry))
            self._numpy[name] = kind

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in self._numpy:
            return self._numpy[f"{module}.{name}"]
        module = module.replace("__builtin__", "builtins")
        if name not in _ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(
                f"it names {module}.{name}; only containers, numbers and numpy arrays are let in"
            )
        return super().find_class(module, name)


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def read_infos(path: str | Path) -> dict[str, Any]:
    """A list of samples, ``dict(metainfo=..., data_list=[...])``.

    Args:
        path: ``.json``, or a pickle file, in which nothing but data is let in.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged, holds something else, or more than data.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the list of sweeps {path} is missing")
    try:
        if path.suffix == ".json":
            infos = json.loads(path.read_text())
        else:
            with open(path, "rb") as file:
                infos = _DataUnpickler(file).load()
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(
            f"the list of sweeps {path} cannot be read: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(infos, dict) or not isinstance(infos.get("data_list"), list):
        hint = "; lists of mmdet3d before 1.1 are updated by its tools/dataset_converters"
        raise ValueError(
            f"the list of sweeps {path} must be a dict with the list 'data_list', got "
            f"{_describe(infos)}{hint if isinstance(infos, list) else ''}"
        )
    return infos


def _describe(infos: Any) -> str:
    return f"a dict with {sorted(infos)}" if isinstance(infos, dict) else type(infos).__name__
