"""Modules of other packages that are repaired when they have been imported, and not before."""

import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

Change = Callable[[ModuleType], object]


def when_imported(name: str, change: Change) -> None:
    """Change a module right after it has run, or now if it has been imported before.

    Args:
        name: Of the module, with its package. A second change takes the place of the first.
        change: Is called with the module.
    """
    if name in sys.modules:
        change(sys.modules[name])
    finder = next((f for f in sys.meta_path if isinstance(f, _Finder)), None)
    if finder is None:
        finder = _Finder()
        sys.meta_path.insert(0, finder)
    finder.changes[name] = change


class _Finder(MetaPathFinder):
    """Finds modules as Python does, and has some changed once they have run."""

    def __init__(self) -> None:
        self.changes: dict[str, Change] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self.changes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                self.changes[name](module)

            spec.loader.exec_module = exec_module
        return spec
