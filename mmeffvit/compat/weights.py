"""``mmeffvit://ravlt-tiny/in1k`` wherever mmengine takes a checkpoint, as in ``load_from``."""

import importlib
import importlib.util
from typing import Any


def register_names() -> None:
    """Let mmengine read published weights by name; nothing without mmengine."""
    if importlib.util.find_spec("mmengine") is None:
        return
    from mmengine.runner.checkpoint import CheckpointLoader

    CheckpointLoader.register_scheme("mmeffvit://", _load, force=True)


def _load(filename: str, map_location: Any = None, **kwargs: Any) -> dict[str, Any]:
    # networks are imported when the first name is asked for
    by_name = importlib.import_module("mmeffvit.checkpoint.by_name")
    return by_name.load_by_name(filename, map_location)
