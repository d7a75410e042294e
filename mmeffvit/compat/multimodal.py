"""mmpretrain beside transformers 5, whose names its multi-modal models no longer find.

mmpretrain builds these models whenever transformers is installed, 4.28 or newer, and with version
5 none of its networks can be imported. Here the multi-modal ones alone are left out, as mmpretrain
does without transformers.
"""

import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Sequence
from types import ModuleType

_NAME = "mmpretrain.utils.dependency"


def leave_out_where_broken() -> None:
    """Let mmpretrain do without its multi-modal models where transformers is 5 or newer."""
    if _has_new_transformers() and not any(isinstance(f, _Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _has_new_transformers() -> bool:
    try:
        version = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return False
    return int(version.partition(".")[0]) >= 5


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the module that says what mmpretrain can use, and corrects what it says."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _NAME:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                module.WITH_MULTIMODAL = False

            spec.loader.exec_module = exec_module
        return spec
