"""Config inheritance with the prefix of a package."""

from pathlib import Path

import pytest

import mmeffvit
from mmeffvit.compat.distribution import installed_version

FORKS = installed_version("onedl-mmengine") is not None

SCRIPT = """
    import json, pathlib, sys
    if {block}:
        sys.modules["pkg_resources"] = None  # as with setuptools >= 82
    from mmengine.config import Config
    bases = dict(
        mmdet="_base_/default_runtime.py",
        mmpretrain="_base_/default_runtime.py",
        mmseg="_base_/default_runtime.py",
        mmeffvit="demo/base.py",
    )
    resolved = []
    for prefix, base in bases.items():
        path = pathlib.Path(f"inherits_{{prefix}}.py")
        path.write_text(f"_base_ = '{{prefix}}::{{base}}'")
        try:
            config = Config.fromfile(path)
        except Exception:
            continue
        if config:
            resolved.append(prefix)
    print(json.dumps(resolved))
"""


def installed_copy(folder):
    """A path with mmeffvit as a wheel has it, with a .mim folder; everything else is a link."""
    package = folder / "site" / "mmeffvit"
    package.mkdir(parents=True)
    for source in Path(mmeffvit.__file__).parent.iterdir():
        if source.name != ".mim":
            (package / source.name).symlink_to(source)
    (package / ".mim" / "configs" / "demo").mkdir(parents=True)
    (package / ".mim" / "configs" / "demo" / "base.py").write_text("inherited = 1\n")
    (package / ".mim" / "model-index.yml").write_text("Import: []\n")
    return package.parent


@pytest.mark.slow
def test_prefixes(run_python, tmp_path):
    path, script = installed_copy(tmp_path), SCRIPT.format(block=False)
    without = run_python(script, pythonpath=path)
    # The official packages need no help with mmseg, the forks do; nobody knows mmeffvit.
    assert without == (["mmdet", "mmpretrain"] if FORKS else ["mmdet", "mmpretrain", "mmseg"])
    repaired = run_python(script, setup=True, pythonpath=path)
    assert repaired == ["mmdet", "mmpretrain", "mmseg", "mmeffvit"]


def test_prefixes_without_pkg_resources(run_python, tmp_path):
    path, script = installed_copy(tmp_path), SCRIPT.format(block=True)
    assert run_python(script, pythonpath=path) == (["mmdet", "mmpretrain"] if FORKS else [])
    repaired = run_python(script, setup=True, pythonpath=path)
    assert repaired == ["mmdet", "mmpretrain", "mmseg", "mmeffvit"]


def test_get_config_of_mmseg():
    from mmengine.hub import get_config

    assert "train_cfg" in get_config("mmseg::_base_/schedules/schedule_20k.py")


def test_installed_packages_are_found_by_either_name():
    from mmengine.utils import get_installed_path, is_installed

    for name in ("mmdet", "mmengine", "numpy"):
        assert is_installed(name)
        assert (Path(get_installed_path(name)) / "__init__.py").is_file()
    assert not is_installed("a-package-that-does-not-exist")
