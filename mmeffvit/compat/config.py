"""Config inheritance across packages: ``_base_ = 'mmseg::...'`` and ``'mmeffvit::...'``.

mmengine turns the prefix into the name of a pip distribution and that into a folder. It misses the
forks (module mmseg, but no distribution mmsegmentation), and mmengine <= 0.10.7 misses editable
installs and needs pkg_resources, which setuptools >= 82 no longer has. It also reads all metafiles
of the package for every such base, which takes a third of a second: here they are read once.
A run lays out its config anew for its log, for each visualizer and for every checkpoint that it
saves, half a second each time: here once for as long as nothing changes in it.

It also builds what such a base configures in the scope of the prefix. Configs of mmeffvit configure
the toolboxes' models, whose names are not in its scope, and name what is its own as `mmeffvit.X`:
they are built in the scope of the config that inherits from them.
"""

import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path


def repair_prefixes() -> None:
    """Make the prefix of every installed toolbox, and ``mmeffvit::``, resolve."""
    if importlib.util.find_spec("mmengine") is None:
        return
    from mmengine.config import utils
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.utils import package_utils

    if not hasattr(utils.load, "cache_info"):
        utils.load = functools.lru_cache(maxsize=None)(utils.load)  # only metafiles, not changed

    _leave_scope_of_inherited_configs()
    _lay_out_once()
    MODULE2PACKAGE.setdefault("mmeffvit", "mmeffvit")
    for module, package in MODULE2PACKAGE.items():
        if not _is_distribution(package) and importlib.util.find_spec(module) is not None:
            MODULE2PACKAGE[module] = module
    if "pkg_resources" in package_utils.get_installed_path.__code__.co_names:
        replace(package_utils.is_installed, _is_installed)
        replace(package_utils.get_installed_path, _get_installed_path)


def _leave_scope_of_inherited_configs() -> None:
    from mmengine.config import Config

    find = Config._get_cfg_path
    if hasattr(find, "__wrapped__"):
        return

    @functools.wraps(find)
    def find_config(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = find(cfg_path, filename)
        return path, None if scope == "mmeffvit" else scope

    Config._get_cfg_path = staticmethod(find_config)


def _lay_out_once() -> None:
    from mmengine.config import Config

    lay_out = Config.pretty_text.fget
    if hasattr(lay_out, "__wrapped__"):
        return
    texts: dict[str, str] = {}  # of the last config alone

    @functools.wraps(lay_out)
    def pretty_text(config: Config) -> str:
        content = repr((config._cfg_dict, config._format_python_code))
        if content not in texts:
            text = lay_out(config)
            texts.clear()
            texts[content] = text
        return texts[content]

    Config.pretty_text = property(pretty_text)


def _is_distribution(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _is_installed(package: str) -> bool:
    """Whether ``package``, a distribution or a module, is installed."""
    return _is_distribution(package) or importlib.util.find_spec(package) is not None


def _get_installed_path(package: str) -> str:
    """Folder of the module that ``package``, a distribution or a module, provides.

    Raises:
        importlib.metadata.PackageNotFoundError: There is none.
    """
    modules = [package]
    if _is_distribution(package):
        top_level = importlib.metadata.distribution(package).read_text("top_level.txt")
        modules += (top_level or "").split()
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            return str(Path(spec.origin).parent)
    raise importlib.metadata.PackageNotFoundError(package)


def replace(old: Callable, new: Callable) -> None:
    """Put ``new`` wherever mmengine holds ``old``: its modules import these functions by name."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "mmengine" and vars(module).get(old.__name__) is old:
            setattr(module, old.__name__, new)
