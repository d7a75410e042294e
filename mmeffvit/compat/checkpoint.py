"""Checkpoints are data: what mmengine reads of them runs nothing, and training still resumes.

mmengine reads checkpoints in `mmengine.runner.checkpoint`, whoever asks: runners, ``init_cfg``,
``init_detector`` and inferencers. Its forks load what torch refuses once more without its guard;
what comes from a URL both load without one. Annotation files that are pickles or YAML it reads with
loaders that run what is in them.

mmengine <= 0.10.7 writes its log history into checkpoints and calls ``torch.load`` with its
defaults, which refuses it. Allowed here are the types of that history, and no function that could
run a file's own choice: a checkpoint from elsewhere stays data.
"""

import functools
import importlib.util
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from mmeffvit import files
from mmeffvit.compat.config import replace
from mmeffvit.errors import CheckpointError
from mmeffvit.files import numpy_globals, with_name

_SCHEDULER = "mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler"


class _Deferred(type):
    """Looks functions up in mmengine's scheduler when asked: importing it takes a second."""

    def __getattr__(cls, name: str) -> Any:
        from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

        if not name.startswith("_annealing"):
            raise AttributeError(name)
        return getattr(OneCycleParamScheduler, name)


class _OneCycleParamScheduler(metaclass=_Deferred):
    """Stands for mmengine's class while a checkpoint is read: a source of functions."""


def trust_mmengine() -> None:
    """Let torch load the objects that mmengine's runner saves; nothing without mmengine."""
    if importlib.util.find_spec("mmengine") is None:
        return
    import torch
    from mmengine.logging import HistoryBuffer

    # Named entries outlive `torch.serialization.safe_globals`, which at its end removes the plain
    # ones that it was given, also if they were there before; onedl-mmengine loads within it.
    torch.serialization.add_safe_globals(
        [
            with_name(HistoryBuffer),
            (_OneCycleParamScheduler, _SCHEDULER),
            (_get_method, "builtins.getattr"),
            *numpy_globals(),
        ]
    )


def _get_method(owner: Any, name: str) -> Any:
    """Stands in for ``getattr``, as which pickle writes a function defined in a class.

    Histories hold their statistics (``HistoryBuffer.mean``), the one-cycle schedule its annealing
    function.

    Raises:
        AttributeError: It is another class, or the attribute is none of its own functions.
    """
    from mmengine.logging import HistoryBuffer

    own = owner is HistoryBuffer and name in vars(HistoryBuffer) and not name.startswith("__")
    if not own and owner is not _OneCycleParamScheduler:
        raise AttributeError(f"the checkpoint asks for '{name}' of what mmengine never saves")
    return getattr(owner, name)


def guard_loading() -> None:
    """Let mmengine read checkpoints, pickles and YAML as data; nothing without mmengine."""
    if importlib.util.find_spec("mmengine") is None:
        return
    from mmengine.fileio import io, register_handler
    from mmengine.runner import checkpoint
    from mmengine.utils import dl_utils

    if isinstance(checkpoint.torch, _GuardedTorch):
        return
    checkpoint.torch = _GuardedTorch()
    checkpoint._safe_torch_load = _GuardedTorch.load  # of the forks
    for module in (checkpoint, dl_utils, dl_utils.hub):
        module.load_url = _load_url
    register_handler(["pickle", "pkl"])(_pickle_handler())
    register_handler(["yaml", "yml"])(_yaml_handler())
    replace(io.load, _naming_the_file(io.load))


class _GuardedTorch:
    """What mmengine's module of checkpoints takes for torch: all of it, but for `load`."""

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)

    @staticmethod
    def load(file: Any, map_location: Any = None, **kwargs: Any) -> Any:
        return _without_programs(files.read_training_state(file, map_location), file)


def _load_url(url: str, *args: Any, **kwargs: Any) -> Any:
    return _without_programs(files.read_training_state_from(url, *args, **kwargs), url)


def _without_programs(checkpoint: Any, file: Any) -> Any:
    """The checkpoint itself; mmengine runs the text of the config in it, which must be data.

    A resumed run does so, and an inferencer that is given weights alone.

    Raises:
        CheckpointError: The text does more than assign values.
    """
    from mmeffvit.configs import values_of_text

    if files.is_trusted(file) or not isinstance(checkpoint, Mapping):
        return checkpoint
    hub = checkpoint.get("message_hub")
    for part in (checkpoint.get("meta"), hub.get("runtime_info") if hub else None):
        for key in ("cfg", "config"):
            text = part.get(key) if isinstance(part, Mapping) else None
            if isinstance(text, str) and values_of_text(text) is None:
                raise CheckpointError(
                    f"'{file}' holds more than data: its config ('{key}') is a program, not a list "
                    f"of values. {files.ADVICE}."
                )
    return checkpoint


def _pickle_handler() -> type:
    from mmengine.fileio import PickleHandler

    class DataPickleHandler(PickleHandler):
        """Reads data alone."""

        def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
            return files.read_pickle(file)

    return DataPickleHandler


def _yaml_handler() -> type:
    import yaml
    from mmengine.fileio import YamlHandler

    class DataYamlHandler(YamlHandler):
        """Reads data alone; Python's tuples are among them."""

        def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
            kwargs.setdefault("Loader", getattr(yaml, "CFullLoader", yaml.FullLoader))
            return super().load_from_fileobj(file, **kwargs)

    return DataYamlHandler


def _naming_the_file(load: Callable) -> Callable:
    """mmengine's `load`, whose handlers do not know the name of the file that they read."""

    @functools.wraps(load)
    def call(file: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(file, *args, **kwargs)
        except pickle.UnpicklingError as error:
            if files.is_trusted(file):
                return files.read_pickle(file)
            raise files.RefusedError(f"'{file}' holds more than data: {error}.") from error

    return call
