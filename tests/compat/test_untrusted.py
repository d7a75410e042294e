"""Files of strangers, on every way on which the stack reads them: nothing in them runs."""

import argparse
import io
import os
import pathlib
import pickle
import shutil
import sys
import types
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.fileio import load as load_file
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel, BaseModule
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader, checkpoint, load_checkpoint
from mmengine.runner.checkpoint import _load_checkpoint_with_prefix
from mmengine.structures import InstanceData
from torch import nn

from mmeffvit.checkpoint import CheckpointError, by_name, read_checkpoint
from mmeffvit.compat import imports, pickles
from mmeffvit.files import TRUSTED_FILES, RefusedError, UnreadableError
from mmeffvit.models.weights import find_weights_file
from tests.engine import toy
from tests.tools import runs


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.source = f"__import__('os').makedirs({str(marker)!r}, exist_ok=True)"

    def __reduce__(self):
        return eval, (self.source,)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "marker"


@pytest.fixture
def evil(tmp_path, marker):
    """A training state that is whole, and holds code."""
    path = tmp_path / "evil.pth"
    weights = OrderedDict((f"backbone.{k}", v) for k, v in nn.Linear(2, 2).state_dict().items())
    state = {"state_dict": weights, "meta": {"iter": 3, "epoch": 1}, "message_hub": {}}
    torch.save({**state, "optimizer": {}, "more": Code(marker)}, path)
    return path


def test_the_file_would_do_it(evil, marker):
    torch.load(evil, weights_only=False)
    assert marker.is_dir()


# -- mmengine's loaders, one per scheme ------------------------------------------------------------

URL = "https://models.invalid/evil.pth"


def from_cache(evil, monkeypatch):
    """What has been downloaded is not downloaded again."""
    folder = evil.parent / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    evil.rename(folder / evil.name)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(folder.parent))


def as_http(evil, monkeypatch):
    from_cache(evil, monkeypatch)
    return URL


def as_torchvision(evil, monkeypatch):
    from_cache(evil, monkeypatch)
    monkeypatch.setattr(checkpoint, "get_torchvision_models", lambda: {"net": URL})
    return "torchvision://net"


def as_modelzoo(evil, monkeypatch):
    as_torchvision(evil, monkeypatch)
    return "modelzoo://net"


def as_openmmlab(evil, monkeypatch):
    monkeypatch.setenv("MMENGINE_HOME", str(evil.parent))
    monkeypatch.setattr(checkpoint, "get_external_models", lambda: {"net": evil.name})
    return "open-mmlab://net"


def as_openmmlab_url(evil, monkeypatch):
    from_cache(evil, monkeypatch)
    monkeypatch.setattr(checkpoint, "get_external_models", lambda: {"net": URL})
    return "openmmlab://net"


def as_mmcls(evil, monkeypatch):
    from_cache(evil, monkeypatch)
    monkeypatch.setattr(checkpoint, "get_mmcls_models", lambda: {"net": URL})
    return "mmcls://net"


def as_ceph(evil, monkeypatch):
    backend = types.SimpleNamespace(get=lambda name: evil.read_bytes())
    monkeypatch.setattr(checkpoint, "get_file_backend", lambda *args, **kwargs: backend)
    return "s3://bucket/net.pth"


def as_pavi(evil, monkeypatch):
    def download(path):
        Path(path).write_bytes(evil.read_bytes())

    model = types.SimpleNamespace(name="net.pth", download=download)
    cloud = types.SimpleNamespace(get=lambda path: model)
    monkeypatch.setitem(sys.modules, "pavi", types.SimpleNamespace(modelcloud=cloud))
    return "pavi://net"


def as_mmeffvit(evil, monkeypatch):
    """A file of the catalogue, where a stranger has put another one."""
    monkeypatch.setenv("MMEFFVIT_HOME", str(evil.parent / "home"))
    file = find_weights_file("cswin-tiny/in1k")
    by_name.folder_of(file).mkdir(parents=True)
    shutil.copy(evil, by_name.folder_of(file) / file.file_name)
    return f"mmeffvit://{file.name}"


def as_local(evil, monkeypatch):
    return str(evil)


SCHEMES = [
    as_local,
    as_http,
    as_torchvision,
    as_modelzoo,
    as_openmmlab,
    as_openmmlab_url,
    as_mmcls,
    as_ceph,
    as_pavi,
    as_mmeffvit,
]


def test_every_scheme_is_tried(evil, monkeypatch):
    """A scheme that mmengine gets later has to be tried too."""
    known = {prefix for prefix in CheckpointLoader._schemes if "safetensors" not in prefix}
    assert known == {
        "",
        "http://",
        "https://",
        "mmcls://",
        "mmeffvit://",
        "modelzoo://",
        "open-mmlab://",
        "openmmlab://",
        "pavi://",
        "torchvision://",
        r"(\S+\:)?petrel://",
        r"(\S+\:)?s3://",
    }


def read_with_mmengine(name):
    return CheckpointLoader.load_checkpoint(name, "cpu")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes(evil, marker, monkeypatch, scheme):
    name = scheme(evil, monkeypatch)
    with pytest.raises(CheckpointError, match=r"more than data: GLOBAL .*eval.*Nothing in it was"):
        read_with_mmengine(name)
    assert not marker.exists()


@pytest.mark.parametrize("forced", [False, True])
def test_an_environment_that_switches_torchs_guard_off(evil, marker, monkeypatch, forced):
    """Forums advise it; it is about files of one's own that torch itself is asked to load."""
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(CheckpointError):
        read_with_mmengine(str(evil))
    assert not marker.exists()


# -- who asks for them -----------------------------------------------------------------------------


@MODELS.register_module(force=True)
class AnyModel(BaseModel):
    """Takes what the functions of the toolboxes hand on."""

    def __init__(self, backbone=None, pretrained=None, train_cfg=None, **kwargs):
        super().__init__()

    def forward(self, inputs, mode="tensor"):
        return inputs


MODEL = {"type": "AnyModel", "backbone": {}}


class Part(BaseModule):
    """A part of a toolbox, such as a neck."""

    def __init__(self, **init_cfg):
        super().__init__(init_cfg={"type": "Pretrained", **init_cfg})
        self.linear = nn.Linear(2, 2)


def toy_config(evil, **entries):
    path = evil.with_name("toy.py")
    work_dir = str(evil.parent / "run")
    Config(toy.config(work_dir=work_dir, **entries)).dump(path)
    return path


def by_load_checkpoint(evil):
    load_checkpoint(nn.Linear(2, 2), str(evil))


def by_prefix(evil):
    _load_checkpoint_with_prefix("backbone", str(evil))


def by_init_cfg(evil):
    Part(checkpoint=str(evil)).init_weights()


def by_init_cfg_with_prefix(evil):
    Part(checkpoint=str(evil), prefix="backbone").init_weights()


def by_init_cfg_of_a_neck(evil):
    from mmdet.models import FPN

    FPN([4], 4, 1, init_cfg={"type": "Pretrained", "checkpoint": str(evil)}).init_weights()


def by_init_cfg_of_ours(evil):
    from tests.models.backbones.tiny import build_tiny

    build_tiny("secvit", init_cfg={"type": "Pretrained", "checkpoint": str(evil)}).init_weights()


def by_train_load_from(evil):
    with runs.main("train.py") as train:
        train(toy_config(evil), "--cfg-options", f"load_from={evil}")


def by_train_load_from_of_the_config(evil):
    with runs.main("train.py") as train:
        train(toy_config(evil, load_from=str(evil)))


def by_train_resume(evil):
    with runs.main("train.py") as train:
        train(toy_config(evil), "--resume", evil)


def by_train_resume_of_the_config(evil):
    with runs.main("train.py") as train:
        train(toy_config(evil, load_from=str(evil), resume=True))


def by_runner_resume(evil):
    from mmeffvit.engine import launch

    cfg = Config.fromfile(toy_config(evil, load_from=str(evil), resume=True))
    launch.build_runner(cfg).train()


def by_test(evil):
    loader = toy.config()["val_dataloader"]
    more = {"test_dataloader": loader, "test_cfg": {}, "test_evaluator": {"type": "ToyMetric"}}
    with runs.main("test.py") as test:
        test(toy_config(evil, **more), evil)


def by_predictor(evil):
    from mmeffvit.engine.inference import Predictor

    dataset = {"type": "ToyDataset", "pipeline": [{"type": "LoadImageFromFile"}]}
    cfg = Config(toy.config(test_dataloader={"dataset": dataset}))
    Predictor(cfg, str(evil))


def by_init_detector(evil):
    from mmdet.apis import init_detector

    init_detector(Config({"model": MODEL}), str(evil), device="cpu")


def by_init_segmentor(evil):
    from mmseg.apis import init_model

    init_model(Config({"model": MODEL}), str(evil), device="cpu")


def by_mmpretrain(evil):
    from mmpretrain.apis import get_model

    get_model(Config({"model": MODEL}), pretrained=str(evil))


def by_inferencer(evil):
    from mmdet.apis import DetInferencer

    cfg = evil.with_name("detector.py")
    cfg.write_text(f"model = {MODEL}\ndefault_scope = 'mmdet'\n")
    DetInferencer(str(cfg), str(evil), device="cpu")


def by_read_checkpoint(evil):
    read_checkpoint(evil)


def by_a_room(evil):
    from mmeffvit.datasets.points.rooms.files import read_room

    read_room(evil)


WAYS = [
    by_load_checkpoint,
    by_prefix,
    by_init_cfg,
    by_init_cfg_with_prefix,
    by_init_cfg_of_a_neck,
    by_init_cfg_of_ours,
    by_train_load_from,
    by_train_load_from_of_the_config,
    by_train_resume,
    by_train_resume_of_the_config,
    by_runner_resume,
    by_test,
    by_predictor,
    by_init_detector,
    by_init_segmentor,
    by_mmpretrain,
    by_inferencer,
    by_read_checkpoint,
    by_a_room,
]


@pytest.mark.parametrize("way", WAYS)
def test_ways(evil, marker, way):
    with pytest.raises((RuntimeError, ValueError), match="more than data"):
        way(evil)
    assert not marker.exists()


# -- texts of configs ------------------------------------------------------------------------------


def with_config(evil, marker, keys, text=None):
    """Weights beside which the text of a config would run."""
    text = text or f"{Code(marker).source}\nmodel = {MODEL}\ndefault_scope = 'mmdet'\n"
    state = {"state_dict": nn.Linear(2, 2).state_dict(), "optimizer": {}, "param_schedulers": []}
    state |= {"meta": {"iter": 3, "epoch": 1}, "message_hub": {"runtime_info": {}}}
    part = state
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = text
    torch.save(state, evil)


def by_weights_alone(evil):
    from mmdet.apis import DetInferencer

    DetInferencer(weights=str(evil), device="cpu")


@pytest.mark.parametrize(
    ("keys", "way"),
    [
        (("meta", "config"), by_runner_resume),
        (("message_hub", "runtime_info", "cfg"), by_weights_alone),
        (("meta", "cfg"), by_weights_alone),
    ],
)
def test_configs_in_checkpoints_do_not_run(evil, marker, keys, way):
    with_config(evil, marker, keys)
    with pytest.raises(CheckpointError, match=f"its config \\('{keys[-1]}'\\) is a program"):
        way(evil)
    assert not marker.exists()


def test_configs_in_checkpoints_are_read_where_they_are_data(evil, marker):
    with_config(evil, marker, ("meta", "cfg"), Config(toy.config()).pretty_text)
    assert read_with_mmengine(str(evil))["meta"]["iter"] == 3


# -- pickles and YAML ------------------------------------------------------------------------------


class Samples:
    """Stands for any data set with annotation files."""

    def __new__(cls, path):
        from mmengine.dataset import BaseDataset

        return BaseDataset(ann_file=str(path))


def load_opened(path):
    with open(path, "rb") as file:
        return load_file(file, file_format="pkl")


@pytest.mark.parametrize("read", [load_file, Samples, load_opened])
def test_pickles(tmp_path, marker, read):
    path = tmp_path / "infos.pkl"
    infos = {"metainfo": {}, "data_list": [{"more": Code(marker)}]}
    path.write_bytes(pickle.dumps(infos))
    name = "infos.pkl' holds more than data: " if read is not load_opened else ""
    with pytest.raises(RefusedError, match=rf"{name}it names builtins\.eval"):
        read(path)
    assert not marker.exists()


def test_a_tensor_in_a_pickle_is_no_way_around(tmp_path, marker):
    """torch's own function for tensors in pickles loads what is inside without looking."""
    inner = io.BytesIO()
    torch.save(Code(marker), inner)

    class Tensor:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    path = tmp_path / "infos.pkl"
    path.write_bytes(pickle.dumps(Tensor()))
    with pytest.raises((RefusedError, pickle.UnpicklingError)):
        load_file(path)
    assert not marker.exists()


def test_yaml(tmp_path, marker):
    path = tmp_path / "infos.yml"
    path.write_text(f"data: !!python/object/apply:os.mkdir [{marker}]\n")
    with pytest.raises(Exception, match="could not determine a constructor"):
        load_file(path)
    assert not marker.exists()
    path.write_text("scale: !!python/tuple [1, 2]\n")
    assert load_file(path) == {"scale": (1, 2)}


# -- what toolboxes unpickle on their own ----------------------------------------------------------


def openimages_tree(path):
    from mmdet.datasets import OpenImagesChallengeDataset

    dataset = object.__new__(OpenImagesChallengeDataset)
    dataset.backend_args = None
    return dataset._get_relation_matrix(str(path))


def cifar(path):
    from mmpretrain.datasets import CIFAR10

    class Unchecked(CIFAR10):
        base_folder, train_list = ".", ((path.name, None),)

        def _check_integrity(self):
            return True

    root = str(path.parent)
    dataset = Unchecked(data_root=root, metainfo={"classes": ["a", "b"]}, lazy_init=True)
    return [info["gt_label"] for info in dataset.load_data_list()]


def volume(path):
    from mmseg.utils import datafrombytes

    return datafrombytes(path.read_bytes(), backend="pickle")


TREE = np.arange(9).reshape(3, 3)
OWN_READERS = [
    (openimages_tree, TREE, TREE[1:, 1:]),
    (cifar, {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 0]}, [1, 0]),
    (volume, TREE, TREE),
]


@pytest.mark.parametrize(("read", "data", "found"), OWN_READERS)
def test_what_toolboxes_unpickle_themselves(tmp_path, marker, read, data, found):
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(data))
    np.testing.assert_array_equal(read(path), found)
    path.write_bytes(pickle.dumps({"data": data, "more": Code(marker)}))
    with pytest.raises((RefusedError, pickle.UnpicklingError), match=r"builtins\.eval"):
        read(path)
    assert not marker.exists()


def test_readers_are_guarded_when_they_are_imported(tmp_path, marker, monkeypatch):
    """One that reads an open file, as RAM of mmpretrain does, which needs more than is here."""
    guarded = pickles._READERS["mmpretrain.models.multimodal.ram.ram"]
    monkeypatch.setitem(pickles._READERS, "reads_tags", guarded)
    imports.when_imported("reads_tags", pickles.guard)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "reads_tags.py").write_text(
        "import pickle\ndef tags(path):\n    with open(path, 'rb') as f: return pickle.load(f)\n"
    )
    import reads_tags

    monkeypatch.delitem(sys.modules, "reads_tags")
    assert reads_tags.pickle.dumps is pickle.dumps
    path = tmp_path / "tags.pickle"
    path.write_bytes(pickle.dumps(["cat", "dog"]))
    assert reads_tags.tags(path) == ["cat", "dog"]
    path.write_bytes(pickle.dumps(["cat", Code(marker)]))
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.eval"):
        reads_tags.tags(path)
    assert not marker.exists()
    monkeypatch.setenv(TRUSTED_FILES, str(path))
    reads_tags.tags(path)
    assert marker.is_dir()


@pytest.mark.parametrize("kind", [int, object])
def test_arrays_of_objects_are_data(tmp_path, marker, kind):
    path = tmp_path / "tree.npy"
    np.save(path, TREE.astype(kind))
    np.testing.assert_array_equal(openimages_tree(path), TREE[1:, 1:])
    np.save(path, np.array([[1, Code(marker)]]))
    with pytest.raises(RefusedError, match=r"tree.npy' holds more than data: .*builtins\.eval"):
        openimages_tree(path)
    assert not marker.exists()


def test_a_class_tree_of_ones_own(tmp_path, marker, monkeypatch):
    path = tmp_path / "tree.npy"
    np.save(path, np.array([[0, 0], [0, Code(marker)]]))
    monkeypatch.setenv(TRUSTED_FILES, str(path))
    openimages_tree(path)
    assert marker.is_dir()


@pytest.mark.parametrize("content", [b"", b"some text", b"\x93NUMPY\x01\x00"])
def test_a_damaged_class_tree_is_named(tmp_path, content):
    path = tmp_path / "tree.npy"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"tree.npy' is no array, or damaged"):
        openimages_tree(path)


# -- files of one's own, and what is data ----------------------------------------------------------


def test_files_of_ones_own(evil, marker, monkeypatch, tmp_path):
    monkeypatch.setenv(TRUSTED_FILES, os.pathsep.join([str(tmp_path / "other.pth"), str(evil)]))
    assert read_with_mmengine(str(evil))["meta"]["iter"] == 3
    assert marker.is_dir()


def test_folders_of_ones_own(tmp_path, marker, monkeypatch):
    path = tmp_path / "mine" / "infos.pkl"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps([Code(marker)]))
    with pytest.raises(RefusedError, match=TRUSTED_FILES):
        load_file(path)
    monkeypatch.setenv(TRUSTED_FILES, str(path.parent))
    load_file(path)
    assert marker.is_dir()


def test_a_url_of_ones_own(evil, marker, monkeypatch):
    from_cache(evil, monkeypatch)
    monkeypatch.setenv(TRUSTED_FILES, f"elsewhere{os.pathsep}{URL}")
    assert read_with_mmengine(URL)["meta"]["iter"] == 3
    assert marker.is_dir()


class CfgNode(dict):
    """As yacs has it: a dict with attributes of its own."""

    __module__ = "yacs.config"

    def __init__(self, init=None):
        super().__init__(init or {})
        self.__dict__["__immutable__"] = True


def test_settings_of_libraries_come_as_plain_data(tmp_path, monkeypatch):
    yacs = types.ModuleType("yacs.config")
    yacs.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", yacs)
    counts = defaultdict(list, a=[1])
    state = {
        "state_dict": OrderedDict(w=torch.ones(2)),
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("a/b")),
        "simple": types.SimpleNamespace(x=1),
        "cfg": CfgNode({"MODEL": CfgNode({"DEPTH": 3})}),
        "config": ConfigDict(a={"b": [1, 2]}),
        "history": HistoryBuffer([1.0, 3.0], [1, 1]),
        "best": np.float32(0.5),
        "counts": counts,
    }
    torch.save(state, tmp_path / "a.pth")
    for name in ("yacs", "yacs.config"):
        monkeypatch.delitem(sys.modules, name)  # it need not be installed
    found = read_with_mmengine(str(tmp_path / "a.pth"))
    assert vars(found["args"]) == {"lr": 0.1, "out": os.path.join("a", "b")}
    assert found["simple"].x == 1
    assert found["cfg"] == {"MODEL": {"DEPTH": 3}}
    assert found["config"] == {"a": {"b": [1, 2]}}
    assert {type(found[key]) for key in ("cfg", "config", "counts")} == {OrderedDict}
    assert found["history"].mean() == 2.0
    assert found["best"] == 0.5
    assert found["counts"] == {"a": [1]}
    assert torch.equal(found["state_dict"]["w"], torch.ones(2))


def test_predictions_and_proposals_are_data(tmp_path):
    instances = InstanceData(bboxes=torch.arange(8.0).view(2, 4), scores=np.array([0.5, 0.25]))
    path = tmp_path / "predictions.pkl"
    path.write_bytes(pickle.dumps([{"pred": instances, "shape": torch.Size([3, 4])}]))
    (found,) = load_file(path)
    assert torch.equal(found["pred"].bboxes, instances.bboxes)
    np.testing.assert_array_equal(found["pred"].scores, instances.scores)
    assert found["shape"] == (3, 4)
