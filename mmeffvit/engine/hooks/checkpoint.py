"""Saving checkpoints without a moment at which none is whole."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmeffvit.engine import storage  # noqa: F401  registers 'atomic_local'
from mmeffvit.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, arguments and file names included, that a crash cannot hurt.

    - Files are whole or absent: on a local disk they are written by the ``atomic_local`` backend
      (unless ``backend_args`` names another).
    - An outdated checkpoint (``max_keep_ckpts``, ``save_best``) is deleted after its successor is
      on the disk; mmengine deletes it before.
    """

    def before_train(self, runner: Runner) -> None:
        remote = "://" in str(self.out_dir or runner.work_dir)
        if self.backend_args is None and self.file_client_args is None and not remote:
            self.backend_args = {"backend": "atomic_local"}
        super().before_train(runner)
        self.file_backend = _DeferredRemoval(self.file_backend)

    def _save_checkpoint(self, runner: Runner) -> None:
        super()._save_checkpoint(runner)
        self.file_backend.remove_deferred(keep=self._current())

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self.file_backend.remove_deferred(keep=self._current())

    def _current(self) -> set[str]:
        best = [getattr(self, "best_ckpt_path", None)]
        best += getattr(self, "best_ckpt_path_dict", {}).values()
        return {str(path) for path in (self.last_ckpt, *best) if path}


class _DeferredRemoval:
    """A storage backend whose removals wait for :meth:`remove_deferred`."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._outdated: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str | Path) -> None:
        self._outdated.append(str(path))

    rmtree = remove

    def remove_deferred(self, keep: Collection[str]) -> None:
        """Delete what waits, except names that were written again meanwhile."""
        for path in self._outdated:
            if path in keep:
                continue
            if self._backend.isdir(path):
                self._backend.rmtree(path)
            elif self._backend.isfile(path):
                self._backend.remove(path)
        self._outdated.clear()
