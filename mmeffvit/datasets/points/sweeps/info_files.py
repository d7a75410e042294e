"""Lists of samples, from JSON or from mmdet3d's pickle files, without running code in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmeffvit.files import read_pickle


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
        infos = json.loads(path.read_text()) if path.suffix == ".json" else read_pickle(path)
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
