"""Config inheritance with the prefix of a package."""

from importlib import import_module
from pathlib import Path

import pytest

import mmeffvit
from mmeffvit.compat.distribution import installed_version

FORKS = installed_version("onedl-mmengine") is not None

SCRIPT = """
    import json, pathlib, sys
    sys.modules["transformers"] = None  # mmengine would import it, which takes seconds
    from mmeffvit import compat
    from mmengine.config import Config

    bases = dict(
        mmdet="_base_/default_runtime.py",
        mmpretrain="_base_/default_runtime.py",
        mmseg="_base_/default_runtime.py",
        mmeffvit="demo/base.py",
    )

    def resolved():
        prefixes = []
        for prefix, base in bases.items():
            path = pathlib.Path(f"inherits_{prefix}.py")
            path.write_text(f"_base_ = '{prefix}::{base}'")
            try:
                if Config.fromfile(path):
                    prefixes.append(prefix)
            except Exception:
                pass
        return prefixes

    plain = resolved()
    sys.modules["pkg_resources"] = None  # as with setuptools >= 82
    without_pkg_resources = resolved()
    compat.setup()
    print(json.dumps([plain, without_pkg_resources, resolved()]))
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
    plain, without_pkg_resources, repaired = run_python(SCRIPT, pythonpath=installed_copy(tmp_path))
    # The official packages need help without pkg_resources, the forks with mmseg; nobody knows us.
    assert plain == (["mmdet", "mmpretrain"] if FORKS else ["mmdet", "mmpretrain", "mmseg"])
    assert without_pkg_resources == (["mmdet", "mmpretrain"] if FORKS else [])
    assert repaired == ["mmdet", "mmpretrain", "mmseg", "mmeffvit"]


def test_toolboxes_models_in_configs_of_mmeffvit_are_built_in_their_own_scope(tmp_path):
    from mmengine.config import Config

    scopes = []
    for base in (
        "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
        "mmeffvit::secvit/secvit-tiny_16xb128_in1k.py",
    ):
        path = tmp_path / "heir.py"
        path.write_text(f"_base_ = {base!r}")
        scopes.append(Config.fromfile(path).model.get("_scope_"))
    assert scopes == ["mmdet", None]


def test_get_config_of_mmseg():
    from mmengine.hub import get_config

    assert "train_cfg" in get_config("mmseg::_base_/schedules/schedule_20k.py")


def test_installed_packages_are_found_by_either_name():
    from mmengine.utils import get_installed_path, is_installed

    for name in ("mmdet", "mmengine", "numpy"):
        assert is_installed(name)
        assert (Path(get_installed_path(name)) / "__init__.py").is_file()
    assert not is_installed("a-package-that-does-not-exist")


def test_metafiles_are_read_once(tmp_path):
    from mmengine.config import Config, utils

    path = tmp_path / "config.py"
    path.write_text("_base_ = 'mmdet::_base_/default_runtime.py'")
    Config.fromfile(path)
    files = utils.load.cache_info().misses
    assert files > 50
    assert Config.fromfile(path).default_scope == "mmdet"
    assert utils.load.cache_info().misses == files


def test_text_is_laid_out_once_for_as_long_as_nothing_changes(monkeypatch):
    from mmengine.config import Config
    from yapf.yapflib import yapf_api

    laid_out = []

    def lay_out(text, **style):
        laid_out.append(text)
        return format_code(text, **style)

    format_code = yapf_api.FormatCode
    # mmengine 0.10.7 imports it once, later ones whenever they use it
    for module in (yapf_api, import_module("mmengine.config.config")):
        monkeypatch.setattr(module, "FormatCode", lay_out, raising=False)
    cfg = Config({"model": {"unlike": "others"}})
    text = cfg.pretty_text
    assert text == "model = dict(unlike='others')\n"
    assert cfg.pretty_text == text == Config(cfg.to_dict()).pretty_text
    assert len(laid_out) == 1
    cfg.model.unlike = "itself"
    assert cfg.pretty_text == "model = dict(unlike='itself')\n"
    assert len(laid_out) == 2
    assert Config(cfg.to_dict(), format_python_code=False).pretty_text != cfg.pretty_text
