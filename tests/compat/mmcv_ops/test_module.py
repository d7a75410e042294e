"""The module that stands in for mmcv._ext: what it answers, and when it is put in place."""

import importlib
import importlib.machinery
import importlib.util
import inspect
import sys

import pytest
import torch
from mmcv import ops
from mmcv.utils import ext_loader

from mmeffvit.compat import distribution
from mmeffvit.compat.mmcv_ops import kernels, module

COVERED = [
    "nms", "softnms", "nms_match",
    "roi_align_forward", "roi_align_backward", "roi_pool_forward", "roi_pool_backward",
    "sigmoid_focal_loss_forward", "sigmoid_focal_loss_backward",
    "softmax_focal_loss_forward", "softmax_focal_loss_backward",
    "deform_conv_forward", "deform_conv_backward_input", "deform_conv_backward_parameters",
    "modulated_deform_conv_forward", "modulated_deform_conv_backward",
    "ms_deform_attn_forward", "ms_deform_attn_backward",
    "carafe_forward", "carafe_backward", "carafe_naive_forward", "carafe_naive_backward",
    "masked_im2col_forward", "masked_col2im_forward",
]  # fmt: skip


def test_covers_what_detectors_use():
    extension = sys.modules["mmcv._ext"]
    for name in COVERED:
        assert inspect.isfunction(getattr(extension, name))
        assert name in vars(extension), f"{name} has no stand-in"


def test_looks_like_an_extension():
    extension = ext_loader.load_ext("_ext", ["nms", "an_operator_that_is_not_covered"])
    assert importlib.util.find_spec("mmcv._ext") is extension.__spec__
    assert "stand-ins" in ops.get_compiler_version()
    assert "stand-ins" in ops.get_compiling_cuda_version()
    assert not hasattr(extension, "__path__")
    assert "compute_dtype" not in vars(extension)


def test_an_operator_that_is_not_covered_says_so_when_it_is_called():
    boxes = torch.zeros(1, 5)
    with pytest.raises(module.MissingOperatorError) as error:
        ops.box_iou_quadri(boxes, boxes)
    message = str(error.value)
    assert "'box_iou_quadri'" in message
    assert "pip install --no-build-isolation --no-cache-dir" in message
    assert "torch < 2.15" in message


@pytest.fixture
def without_extension(monkeypatch):
    monkeypatch.delitem(sys.modules, "mmcv._ext")


def test_compiled_operators_are_left_alone(monkeypatch, tmp_path, without_extension):
    """Found on disk, without importing mmcv."""
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mmcv")
    assert distribution.find_compiled_operators() is None
    (package / f"_ext{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    importlib.invalidate_caches()
    assert distribution.find_compiled_operators() is not None
    assert distribution.probe().operators == "compiled"
    offers = []
    monkeypatch.setattr(kernels, "offer", lambda: offers.append("compiled"))
    assert not module.install()
    assert offers == ["compiled"]
    assert "mmcv._ext" not in sys.modules


def test_an_extension_that_is_loaded_stays(monkeypatch):
    compiled = object()
    monkeypatch.setitem(sys.modules, "mmcv._ext", compiled)
    assert not module.install()
    assert sys.modules["mmcv._ext"] is compiled


def test_too_late(without_extension):
    with pytest.raises(module.TooLateError, match=r"mmcv\.ops.* call it before"):
        module.install()


def test_without_mmcv_there_is_nothing_to_stand_in_for(monkeypatch, without_extension):
    monkeypatch.setitem(sys.modules, "mmcv", None)
    assert not module.install()
    assert "mmcv._ext" not in sys.modules


def test_a_torchvision_that_does_not_work_is_named(monkeypatch, without_extension):
    monkeypatch.setattr(module, "_USERS", ())
    problem = distribution.Problem("torchvision is broken", "pip install torchvision")
    monkeypatch.setattr(distribution, "torch_problems", lambda: [problem])
    with pytest.raises(RuntimeError, match="torchvision is broken; to repair it: pip install"):
        module.install()


def test_mmdet_needs_the_stand_ins(monkeypatch, without_extension):
    for name in [name for name in sys.modules if f"{name}.".startswith("mmcv.ops.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r"mmcv\._ext"):
        importlib.import_module("mmcv.ops")
    monkeypatch.undo()
    import mmdet.models

    assert mmdet.models.FCNMaskHead
