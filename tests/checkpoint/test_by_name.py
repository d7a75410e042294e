"""Weights by name, from a server on the loopback, with made-up files under the official keys."""

import errno
import hashlib
import io
import multiprocessing
import os
import sys
from dataclasses import replace

import pytest
import torch

import mmeffvit
from mmeffvit.checkpoint import CheckpointError, FetchError, by_name, fetch, read_checkpoint
from mmeffvit.checkpoint import download as downloads
from mmeffvit.models import RAVLT, CSWin, SecViT, weights
from mmeffvit.models.network import _whole_network
from mmeffvit.swap import SwapError
from mmeffvit.testing.families import FAMILIES
from tests.checkpoint.official import official_state
from tests.checkpoint.server import serve
from tests.checkpoint.test_whole import build, official_model
from tests.configs.common import load
from tests.tools import runs

NAME = "cswin-tiny/in1k"


@pytest.fixture(scope="module", autouse=True)
def _small_networks():
    """The variants are small, so that a test takes a moment."""
    with pytest.MonkeyPatch.context() as patch:
        for cls in (CSWin, SecViT, RAVLT):
            arch = FAMILIES[cls.family].small_arch(cls, "tiny")
            patch.setattr(cls, "arch_zoo", {"tiny": arch})
        _whole_network.cache_clear()
        yield
    _whole_network.cache_clear()


@pytest.fixture(scope="module")
def published(_small_networks):
    """A training state of the tiny classifier as its authors would save it, and the network."""
    torch.manual_seed(0)
    network = mmeffvit.create_classifier("cswin-tiny")
    state = official_state(network.state_dict(), CSWin)
    buffer = io.BytesIO()
    torch.save({"state_dict_ema": state, "epoch": 299}, buffer)
    return buffer.getvalue(), network


@pytest.fixture
def server(monkeypatch, tmp_path, published):
    """The server has the file; the catalogue its address, size and SHA-256."""
    monkeypatch.setenv("MMEFFVIT_HOME", str(tmp_path / "home"))
    for name in by_name.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads, "WAITS", (0,))
    content = published[0]
    with serve() as server:
        server.files["/cswin.pth"] = content
        server.list = lambda **changes: list_file(monkeypatch, **changes)
        server.list(
            url=server.url("/cswin.pth"),
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        yield server


def list_file(monkeypatch, **changes):
    """Change an entry of the catalogue."""
    files = tuple(replace(f, **changes) if f.name == NAME else f for f in CSWin.weights)
    monkeypatch.setattr(CSWin, "weights", files)


def run_tool(*arguments):
    with runs.main("weights.py") as run:
        return run(*arguments)


def whole_files(tmp_path):
    return sorted(path.name for path in (tmp_path / "home").rglob("*") if path.is_file())


def test_fetched_checked_converted_and_kept(server, tmp_path, published, caplog):
    path = fetch(NAME)
    assert path.is_relative_to(tmp_path / "home")
    assert whole_files(tmp_path) == ["cswin-tiny_in1k.safetensors", "cswin.pth", "lock"]
    state = read_checkpoint(path)
    assert all(torch.equal(state[k], v) for k, v in published[1].state_dict().items())
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        assert file.metadata()["name"] == NAME
        assert file.metadata()["licence"] == "MIT"
        assert file.metadata()["entry"] == "state_dict_ema"
    assert fetch(f"mmeffvit://{NAME}") == path
    assert len(server.asked) == 1


def test_networks_start_from_names(server, published):
    x = torch.randn(1, 3, 64, 64)
    classifier = published[1].eval()
    with torch.no_grad():
        loaded = mmeffvit.create_classifier("cswin-tiny", weights="in1k").eval()
        assert torch.equal(loaded(x), classifier(x))
        backbone = mmeffvit.create_backbone("cswin-tiny", weights=NAME, out_norm=False).eval()
        assert torch.equal(backbone(x)[-1], classifier.backbone(x)[-1])
    other = mmeffvit.create_classifier("cswin-tiny", num_classes=5, weights="in1k")
    assert torch.equal(other.head.norm.weight, classifier.head.norm.weight)
    assert other.head.fc.weight.shape[0] == 5
    bands = mmeffvit.create_backbone("cswin-tiny", weights=by_name.fetch(NAME), in_channels=5)
    assert torch.equal(bands.stages[0].blocks[0].norm1.weight, torch.ones(16))
    assert len(server.asked) == 1


def test_init_cfg_fetches_when_weights_are_initialised_and_not_before(server, published):
    from mmengine.registry import MODELS

    backbone = MODELS.build(
        {
            "type": "mmeffvit.CSWin",
            "arch": "tiny",
            "init_cfg": {"type": "Pretrained", "checkpoint": f"mmeffvit://{NAME}"},
        }
    )
    assert server.asked == []
    backbone.init_weights()
    expected = published[1].backbone.stem.conv.weight
    assert torch.equal(backbone.stem.conv.weight, expected)


def test_mmengine_reads_names(server, published):
    from mmengine.runner.checkpoint import CheckpointLoader

    read = CheckpointLoader.load_checkpoint(f"mmeffvit://{NAME}", map_location="cpu")
    assert torch.equal(
        read["state_dict"]["backbone.stem.conv.weight"], published[1].backbone.stem.conv.weight
    )


def test_a_cut_and_then_the_rest(server, tmp_path):
    server.cuts = [500_000, 1000]
    with pytest.raises(FetchError, match=r"did not come in 2 attempts"):
        fetch(NAME)
    assert not [name for name in whole_files(tmp_path) if name.endswith(("pth", "safetensors"))]
    fetch(NAME)
    assert server.ranges_asked == [None, "bytes=500000-", "bytes=501000-"]


def test_wrong_bytes_leave_nothing(server, tmp_path):
    content = bytearray(server.files["/cswin.pth"])
    content[1000] ^= 1
    server.files["/cswin.pth"] = bytes(content)
    with pytest.raises(FetchError, match="SHA-256"):
        fetch(NAME)
    assert whole_files(tmp_path) == ["lock"]


def test_right_bytes_of_something_else_are_refused(server, tmp_path):
    buffer = io.BytesIO()
    torch.save({"state_dict": {"layer1.0.conv1.weight": torch.ones(1)}}, buffer)
    server.files["/cswin.pth"] = buffer.getvalue()
    server.list(size=None, sha256="")
    with pytest.raises(CheckpointError, match="not weights of cswin"):
        fetch(NAME)
    assert not [name for name in whole_files(tmp_path) if name.endswith("safetensors")]


def test_a_full_disk_while_converting_leaves_nothing_half(server, tmp_path, monkeypatch):
    import safetensors.torch

    def full(state, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(FetchError, match=r"disk is full.*MMEFFVIT_HOME"):
        fetch(NAME)
    assert whole_files(tmp_path) == ["cswin.pth", "lock"]


@pytest.mark.parametrize("variable", by_name.OFFLINE)
def test_offline_fetches_nothing_and_uses_what_is_there(server, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(FetchError, match=r"says that nothing is fetched.*get cswin-tiny/in1k --f"):
        fetch(NAME)
    monkeypatch.setenv(variable, "0")
    path = fetch(NAME)
    monkeypatch.setenv(variable, "1")
    assert fetch(NAME) == path
    assert len(server.asked) == 1


def _fetch_in_a_process(home, changes, arch):
    os.environ["MMEFFVIT_HOME"] = home
    CSWin.arch_zoo = {"tiny": arch}
    CSWin.weights = tuple(replace(f, **changes) if f.name == NAME else f for f in CSWin.weights)
    assert fetch(NAME).is_file()


@pytest.mark.slow
def test_two_processes_fetch_once(server, tmp_path):
    changes = {"url": server.url("/cswin.pth")}
    arguments = (str(tmp_path / "home"), changes, CSWin.arch_zoo["tiny"])
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_fetch_in_a_process, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(200)
        assert process.exitcode == 0
    assert len(server.asked) == 1
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_shares_say_what_to_do_and_take_a_file_by_hand(server, tmp_path, published, capsys):
    with pytest.raises(FetchError, match=r"github.com/qhfan/SecViT.*get secvit-tiny/in1k --file"):
        fetch("secvit-tiny/in1k")
    network = mmeffvit.create_classifier("secvit-tiny")
    state = official_state(network.state_dict(), SecViT)
    torch.save({"model": state}, tmp_path / "SecViT_T.pth")
    file = str(tmp_path / "SecViT_T.pth")
    out = str(tmp_path / "copy.safetensors")
    assert run_tool("get", "secvit-tiny/in1k", "--file", file, "--out", out) == 0
    loaded = mmeffvit.create_classifier("secvit-tiny", weights="in1k")
    expected = network.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in loaded.state_dict().items())
    assert read_checkpoint(out).keys() == expected.keys()
    assert run_tool("get", NAME, "--file", file) == 1
    assert "is not the published file of cswin-tiny/in1k" in capsys.readouterr().err
    assert server.asked == []


@pytest.mark.parametrize("fault", ["cut", "wrong bytes", "full disk"])
def test_faults_of_a_file_by_hand_leave_nothing_half(server, tmp_path, monkeypatch, fault):
    import safetensors.torch

    content = server.files["/cswin.pth"]
    file = tmp_path / "by_hand.pth"
    file.write_bytes(content[: len(content) // 2] if fault == "cut" else content)
    if fault == "wrong bytes":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    def full(state, path, metadata):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    if fault == "full disk":
        monkeypatch.setattr(safetensors.torch, "save_file", full)
    said = {"cut": "truncated", "full disk": "disk is full.*MMEFFVIT_HOME"}
    said["wrong bytes"] = "truncated|not the published file"
    with pytest.raises((CheckpointError, FetchError), match=said[fault]):
        by_name.add_file(NAME, file)
    assert file.is_file()
    assert not [name for name in whole_files(tmp_path) if name.endswith("safetensors")]


def test_the_tool_lists_and_describes(server, capsys):
    assert run_tool("list", "ravlt-*") == 0
    row = "ravlt-base/cascade-mask-rcnn-3x   Cascade Mask R-CNN 3x, COCO"
    assert row in capsys.readouterr().out
    assert run_tool("info", NAME) == 0
    printed = capsys.readouterr().out
    assert "licence   MIT" in printed
    assert "not yet: tools/weights.py get cswin-tiny/in1k" in printed
    assert run_tool("get", NAME) == 0
    path = capsys.readouterr().out.strip().splitlines()[-1]
    assert path == str(fetch(NAME))
    assert run_tool("list", "nothing-*") == 1
    assert run_tool("info", "cswin-tiny/in1") == 1
    assert "those of cswin-tiny are cswin-tiny/in1k" in capsys.readouterr().err


class TestHub:
    @pytest.fixture
    def hub(self, server, monkeypatch, tmp_path, published):
        """A stand-in for the library's two functions that reach the network."""
        import huggingface_hub

        content = published[0]
        server.list(
            url="", hub=("some/one", "*classification/T/best.pth"), size=len(content), sha256=""
        )
        asked = []

        def download(repository, path, local_files_only=None):
            asked.append((repository, path))
            target = tmp_path / "hub" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            return str(target)

        files = ["checkpoints/classification/T/best.pth", "checkpoints/detection/T/best.pth"]
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        monkeypatch.setattr(
            huggingface_hub.HfApi, "list_repo_files", lambda self, repository: files
        )
        self.asked, self.files, self.server = asked, files, server
        return self

    def test_the_file_that_fits_is_fetched_once(self, hub):
        path = fetch(NAME)
        assert fetch(NAME) == path
        assert hub.asked == [("some/one", "checkpoints/classification/T/best.pth")]

    def test_no_or_several_files_are_said(self, hub):
        hub.files.append("old/classification/T/best.pth")
        with pytest.raises(FetchError, match=r"2 files of huggingface.co/some/one fit"):
            fetch(NAME)

    def test_offline_the_file_that_fits_is_looked_for_in_the_cache(
        self, hub, monkeypatch, tmp_path
    ):
        """Nothing is asked of the hub: its client would try for half a minute."""
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError

        def ask(self, repository):
            raise AssertionError("the hub was asked")

        def kept(repository, local_files_only):
            assert local_files_only
            if not snapshot.is_dir():
                raise LocalEntryNotFoundError("not in the cache")
            return str(snapshot)

        snapshot = tmp_path / "snapshot"
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", ask)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", kept)
        monkeypatch.setenv("MMEFFVIT_OFFLINE", "1")
        with pytest.raises(FetchError, match="says that nothing is fetched"):
            fetch(NAME)
        snapshot.mkdir()
        with pytest.raises(FetchError, match="says that nothing is fetched"):
            fetch(NAME)
        (snapshot / "new/classification/T").mkdir(parents=True)
        (snapshot / "new/classification/T/best.pth").touch()
        assert fetch(NAME).is_file()
        assert hub.asked == [("some/one", "new/classification/T/best.pth")]

    def test_wrong_bytes_are_removed(self, hub, tmp_path):
        hub.server.list(sha256="0123456789abcdef")
        with pytest.raises(FetchError, match="SHA-256"):
            fetch(NAME)
        assert not list((tmp_path / "hub").rglob("*.pth"))

    def test_without_the_library_it_is_named(self, hub, monkeypatch):
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(FetchError, match=r"pip install 'mmeffvit\[hub\]'"):
            fetch(NAME)

    @pytest.mark.parametrize("step", ["list_repo_files", "hf_hub_download"])
    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (OSError("no route to host"), "no route to host"),
            # a cut: HTTP clients have errors of their own
            (RuntimeError("peer closed connection"), "peer closed.* goes on from where it was"),
            (OSError(errno.ENOSPC, "No space left on device"), "No space left.*HF_HOME"),
        ],
    )
    def test_faults_leave_nothing_half(self, hub, monkeypatch, tmp_path, step, error, said):
        import huggingface_hub

        def fail(*args, **kwargs):
            raise error

        owner = huggingface_hub if step == "hf_hub_download" else huggingface_hub.HfApi
        monkeypatch.setattr(owner, step, fail)
        with pytest.raises(FetchError, match=rf"did not come from .*{said}.*--file FILE"):
            fetch(NAME)
        assert not [name for name in whole_files(tmp_path) if name.endswith(("pth", "safetensors"))]


def test_whole_models_by_name(server, monkeypatch, tmp_path):
    """What `load_from` and tools/test.py read is the model of the config, and not its backbone."""
    name = "ravlt-tiny/fpn"
    model = build(load(f"configs/{weights.find_weights_file(name).config}"), "cpu")
    torch.save({"state_dict": official_model(model), "meta": {}}, tmp_path / "fpn.pth")
    server.files["/fpn.pth"] = (tmp_path / "fpn.pth").read_bytes()
    changes = {"url": server.url("/fpn.pth"), "hub": None}
    files = tuple(replace(f, **changes) if f.name == name else f for f in RAVLT.weights)
    monkeypatch.setattr(RAVLT, "weights", files)
    path = by_name.local_file(name)
    assert by_name.local_file(path) == path
    state = by_name.load_by_name(f"mmeffvit://{name}")["state_dict"]
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    backbone = mmeffvit.create_backbone("ravlt-tiny", weights="fpn")
    assert torch.equal(backbone.out_norms["3"].weight, model.backbone.out_norms["3"].weight)
    assert len(server.asked) == 1
    with pytest.raises(CheckpointError, match="no weights are called"):
        by_name.local_file("mmeffvit://ravlt-tiny/fnp")


def test_swaps_take_names():
    config = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
    swapped = mmeffvit.swap_backbone(config, "ravlt-tiny", checkpoint="ravlt-tiny/in1k")
    init_cfg = swapped.model.backbone.init_cfg
    assert init_cfg == {"type": "Pretrained", "checkpoint": "mmeffvit://ravlt-tiny/in1k"}
    with pytest.raises(SwapError, match="those of ravlt-tiny are"):
        mmeffvit.swap_backbone(config, "ravlt-tiny", checkpoint="mmeffvit://ravlt-tiny/in2k")


def test_names_in_configs_and_on_command_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert by_name.as_checkpoint("ravlt-tiny/in1k") == "mmeffvit://ravlt-tiny/in1k"
    assert by_name.as_checkpoint("weights.pth") == "weights.pth"
    (tmp_path / "ravlt-tiny").mkdir()
    (tmp_path / "ravlt-tiny" / "in1k").touch()
    assert by_name.as_checkpoint("ravlt-tiny/in1k") == "ravlt-tiny/in1k"  # a file
    with pytest.raises(ValueError, match="no weights are called"):
        by_name.as_checkpoint("mmeffvit://ravlt-tiny/in22k")


def test_folders(monkeypatch, tmp_path):
    file = weights.find_weights_file(NAME)
    monkeypatch.setenv("MMEFFVIT_HOME", str(tmp_path))
    assert by_name.folder_of(file).parent == tmp_path / "weights" / "cswin-tiny"
    assert by_name.folder_of(replace(file, sha256="00" * 32)) != by_name.folder_of(file)
    monkeypatch.delenv("MMEFFVIT_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert by_name.cache_folder() == tmp_path / "cache" / "mmeffvit"
