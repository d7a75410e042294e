"""mmpretrain imports beside a transformers that its multi-modal models do not know."""

import importlib.metadata
import importlib.util
import sys

import pytest

from mmeffvit.compat import imports, multimodal


@pytest.fixture
def finders(monkeypatch):
    """The finders without ours."""
    others = [f for f in sys.meta_path if not isinstance(f, imports._Finder)]
    monkeypatch.delitem(sys.modules, "mmpretrain.utils.dependency", raising=False)
    monkeypatch.setattr(sys, "meta_path", others)
    return others


def pretend(monkeypatch, version):
    def find(name):
        assert name == "transformers"
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", find)


@pytest.mark.parametrize(
    ("version", "count"), [(None, 0), ("4.57.1", 0), ("5.0.0rc1", 1), ("5.24.0", 1), ("10.1", 1)]
)
def test_only_beside_versions_that_it_does_not_know(monkeypatch, finders, version, count):
    pretend(monkeypatch, version)
    before = len(finders)
    multimodal.leave_out_where_broken()
    multimodal.leave_out_where_broken()
    assert len(finders) == before + count


def test_the_module_says_that_it_cannot(monkeypatch, finders, tmp_path):
    """Its other names stay as they are, and so do other modules."""
    package = tmp_path / "mmpretrain" / "utils"
    package.mkdir(parents=True)
    (package / "dependency.py").write_text("WITH_MULTIMODAL = True\nOTHER = 3\n")
    (package / "misc.py").write_text("WITH_MULTIMODAL = True\n")
    pretend(monkeypatch, "5.1.0")
    multimodal.leave_out_where_broken()
    found = {}
    for name in ("dependency", "misc"):
        for finder in finders:
            spec = finder.find_spec(f"mmpretrain.utils.{name}", [str(package)], None)
            if spec is not None:
                break
        found[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[name])
    assert found["dependency"].WITH_MULTIMODAL is False
    assert found["dependency"].OTHER == 3
    assert found["misc"].WITH_MULTIMODAL is True


def test_networks_of_mmpretrain_import():
    models = pytest.importorskip("mmpretrain.models")
    assert models.VisionTransformer
