"""mmpretrain beside transformers 5, whose names its multi-modal models no longer find.

mmpretrain builds these models whenever transformers is installed, 4.28 or newer, and with version
5 none of its networks can be imported. Here the multi-modal ones alone are left out, as mmpretrain
does without transformers.
"""

import importlib.metadata
from types import ModuleType

from mmeffvit.compat.imports import when_imported


def leave_out_where_broken() -> None:
    """Let mmpretrain do without its multi-modal models where transformers is 5 or newer."""
    if _has_new_transformers():
        when_imported("mmpretrain.utils.dependency", _leave_out)


def _leave_out(module: ModuleType) -> None:
    module.WITH_MULTIMODAL = False


def _has_new_transformers() -> bool:
    try:
        version = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return False
    return int(version.partition(".")[0]) >= 5
