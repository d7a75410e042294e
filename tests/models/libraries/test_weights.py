"""Weights of other libraries: published ones, files of their own, and ours in trained models."""

import json
import socket

import pytest
import torch
from mmengine.model import BaseModule
from safetensors.torch import save_file

from mmeffvit.checkpoint import CheckpointError, load_weights
from mmeffvit.models import LibraryBackbone
from mmeffvit.models.libraries.timm_networks import TimmNetwork

VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def equal(network, state):
    own = network.state_dict()
    return all(torch.equal(value, state[key]) for key, value in own.items())


@pytest.fixture(scope="module")
def timm_state():
    import timm

    torch.manual_seed(1)
    return timm.create_model("test_convnext").state_dict()


class Model(BaseModule):
    def __init__(self, **arguments):
        super().__init__()
        self.backbone = LibraryBackbone("timm/test_convnext", **arguments)


class TestPublished:
    def test_are_loaded_by_init_weights_and_not_before(self, monkeypatch, timm_state):
        calls = []
        monkeypatch.setattr(TimmNetwork, "weights", lambda self: calls.append(1) or timm_state)
        model = Model(pretrained=True, out_indices=(1, 2))
        assert not calls
        assert not equal(model.backbone.network, timm_state)
        model.init_weights()
        model.backbone.init_weights()
        assert calls == [1]
        assert equal(model.backbone.network, timm_state)

    def test_without_a_network_it_says_what_to_do(self, monkeypatch):
        def fail(self):
            raise OSError("no route to host")

        monkeypatch.setattr(TimmNetwork, "weights", fail)
        with pytest.raises(RuntimeError, match=r"OSError: no route to host\n.*pretrained=False"):
            Model(pretrained=True).init_weights()

    def test_that_lack_something_are_refused(self, monkeypatch, timm_state):
        state = {key: value for key, value in timm_state.items() if "stages.1" not in key}
        monkeypatch.setattr(TimmNetwork, "weights", lambda self: state)
        with pytest.raises(RuntimeError, match=r"timm/test_convnext lack stages\.1\."):
            Model(pretrained=True).init_weights()

    @pytest.mark.parametrize("variable", ["MMEFFVIT_OFFLINE", "HF_HUB_OFFLINE"])
    @pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18.a1_in1k"])
    def test_nothing_is_fetched_where_it_is_forbidden(self, variable, name, monkeypatch, tmp_path):
        import huggingface_hub

        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        for other in ("MMEFFVIT_OFFLINE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(other, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv(variable, "1")
        monkeypatch.setattr(socket.socket, "connect", _no_connection)
        before = torch.hub.urlopen
        with pytest.raises(RuntimeError, match="could not be loaded") as caught:
            LibraryBackbone(name, pretrained=True).init_weights()
        cause = caught.value.__cause__
        assert "nothing is to be fetched" in str(cause) or "HF_HUB_OFFLINE" in repr(cause.__cause__)
        assert torch.hub.urlopen is before
        assert huggingface_hub.constants.HF_HUB_OFFLINE is False


def _no_connection(*args):
    raise AssertionError("a connection was made")


class TestFiles:
    def test_under_the_librarys_names(self, tmp_path, timm_state):
        path = tmp_path / "timm.safetensors"
        save_file(timm_state, path)
        model = Model(init_cfg={"type": "Pretrained", "checkpoint": str(path)})
        model.init_weights()
        assert equal(model.backbone.network, timm_state)

    def test_of_a_trained_model(self, timm_state):
        trained = Model()
        trained.backbone.network.load_state_dict(timm_state, strict=False)
        fresh = LibraryBackbone("timm/test_convnext", out_indices=(0, 1))
        report = load_weights(fresh, {"state_dict": trained.state_dict()})
        assert equal(fresh.network, timm_state)
        assert set(report.ignored.values()) == {"the classifier, or a part that no output needs"}

    def test_of_another_network_are_refused(self, timm_state):
        with pytest.raises(CheckpointError, match="has no place in the network"):
            load_weights(LibraryBackbone("timm/test_resnet"), timm_state)


class TestHuggingFace:
    """A folder as the hub has it."""

    @pytest.fixture
    def folder(self, tmp_path):
        from transformers import AutoBackbone, Dinov2Config

        torch.manual_seed(2)
        network = AutoBackbone.from_config(Dinov2Config(**VIT))
        network.save_pretrained(tmp_path)
        processor = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
        return tmp_path, network.state_dict()

    def test_is_read_when_weights_are_loaded(self, folder):
        path, state = folder
        backbone = LibraryBackbone(f"hf/{path}", pretrained=True, out_indices=(0, 1))
        assert not equal(backbone.network, state)
        backbone.init_weights()
        assert equal(backbone.network, state)
        statistics = backbone.statistics()
        assert statistics.mean == (127.5, 102.0, 76.5)
        assert statistics.std == (51.0, 51.0, 25.5)

    @pytest.mark.parametrize("kind", ["ViTForImageClassification", "CLIPModel"])
    def test_what_is_no_backbone_there(self, kind, tmp_path):
        """A classifier's folder, and one of a model of images and text."""
        import transformers

        torch.manual_seed(3)
        small = {**VIT, "intermediate_size": 64}
        text = {**small, "vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
        configs = {
            "ViTForImageClassification": lambda: transformers.ViTConfig(**small),
            "CLIPModel": lambda: transformers.CLIPConfig(
                text_config=text, vision_config={**small, "patch_size": 16}
            ),
        }
        saved = getattr(transformers, kind)(configs[kind]())
        saved.save_pretrained(tmp_path)
        backbone = LibraryBackbone(f"hf/{tmp_path}", pretrained=True)
        backbone.init_weights()
        theirs = {"ViTForImageClassification": "vit", "CLIPModel": "vision_model"}[kind]
        state = getattr(saved, theirs).state_dict()
        own = backbone.network.state_dict()
        assert set(own) == {key for key in state if "pooler" not in key}
        assert all(torch.equal(value, state[key]) for key, value in own.items())

    def test_an_option_overrides_its_config(self, folder):
        backbone = LibraryBackbone(f"hf/{folder[0]}", num_hidden_layers=1)
        assert backbone.stage_strides == (14,)
        with pytest.raises(ValueError, match="no entry 'num_layers'; did you mean 'num_hidden_l"):
            LibraryBackbone(f"hf/{folder[0]}", num_layers=1)

    def test_a_name_of_the_hub_is_asked_for(self, folder, monkeypatch):
        from transformers import AutoConfig

        read, asked = AutoConfig.from_pretrained, []

        def from_hub(name, **kwargs):
            asked.append(name)
            return read(folder[0], **kwargs)

        monkeypatch.setattr(AutoConfig, "from_pretrained", from_hub)
        backbone = LibraryBackbone("hf/facebook/dinov2-made-up")
        assert asked == ["facebook/dinov2-made-up"]
        assert backbone.out_channels == (32,)

    def test_a_folder_without_a_config_is_no_network(self, tmp_path):
        with pytest.raises(ValueError, match=r"(?s)finds no config\.json of .*a folder that holds"):
            LibraryBackbone(f"hf/{tmp_path}")


def test_statistics_are_those_of_the_weights():
    assert LibraryBackbone("timm/test_vit").statistics().mean == (127.5,) * 3
    assert LibraryBackbone("hf/dinov2", **VIT).statistics().mean == (123.675, 116.28, 103.53)
    statistics = LibraryBackbone("torchvision/resnet18.IMAGENET1K_V1").statistics()
    assert statistics.std == (58.395, 57.12, 57.375)
