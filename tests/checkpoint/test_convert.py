import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmeffvit.checkpoint import CheckpointError, convert_official, load_weights
from mmeffvit.models import Classifier, SecViT
from mmeffvit.testing import golden_weights
from mmeffvit.testing.families import FAMILIES

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@pytest.fixture(scope="module")
def official():
    return golden_weights(GOLDEN / "secvit.npz")


@pytest.fixture(scope="module")
def network():
    with np.load(GOLDEN / "secvit.npz") as file:
        constructor = json.loads(str(file["meta"]))["constructor"]
    backbone = SecViT(arch=FAMILIES["secvit"].arch(constructor), **SecViT.classifier_options)
    head = backbone.make_head(constructor["num_classes"], hidden_channels=constructor["projection"])
    return Classifier(backbone, head)


def test_every_weight_finds_its_place(official, network):
    conversion = convert_official(official, "secvit")
    assert conversion.state_dict.keys() == network.state_dict().keys()
    assert all(conversion.state_dict[k].shape == v.shape for k, v in network.state_dict().items())
    assert conversion.variant is None
    assert set(conversion.ignored) == {f"layers.{i}.RoPE.angle" for i in range(4)}


@pytest.mark.parametrize(
    ("wrap", "container"),
    [
        (lambda s: {"model": s, "epoch": 3}, "model"),
        (lambda s: {"model": {k: v + 1 for k, v in s.items()}, "model_ema": s}, "model_ema"),
        (lambda s: {"state_dict": s}, "state_dict"),
        (lambda s: {"model_ema": {"state_dict": s}}, "model_ema.state_dict"),
        (lambda s: {"model": {f"module.{k}": v for k, v in s.items()}}, "model"),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, ""),
    ],
)
def test_containers(official, wrap, container):
    expected = convert_official(official, "secvit").state_dict
    conversion = convert_official(wrap(official), "secvit")
    assert conversion.container == container
    assert conversion.state_dict.keys() == expected.keys()
    assert all(torch.equal(conversion.state_dict[k], v) for k, v in expected.items())


def test_tables_are_ignored_with_a_reason(official):
    conversion = convert_official(official, "secvit")
    assert "computed" in conversion.ignored["layers.0.RoPE.angle"]
    assert "ignored layers.0.RoPE.angle" in str(conversion)


def test_detector_files_give_their_backbone(official):
    left_out = ("proj", "norm", "head")
    body = {k: v for k, v in official.items() if not k.startswith(left_out) and "RoPE" not in k}
    detector = {f"backbone.{k}": v for k, v in body.items()} | {"neck.conv.weight": torch.ones(1)}
    conversion = convert_official({"state_dict": detector}, "secvit")
    assert len(conversion.state_dict) == len(body)
    assert conversion.ignored == {"neck.conv.weight": "not part of the backbone"}


def test_wrappers_and_containers_are_taken_off(official, network):
    expected = convert_official(official, "secvit").state_dict
    for container in ("net", "params", "model", "state_dict"):
        wrapped = {f"_orig_mod.module.{key}": value for key, value in official.items()}
        conversion = convert_official({container: wrapped, "epoch": 3}, "secvit")
        assert conversion.container == container
        assert conversion.state_dict.keys() == expected.keys()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"conv1.weight": torch.ones(1), "layer1.0.bn1.bias": torch.ones(1)},
            r"2 of 2 keys .*conv1",
        ),
        ({"proj.weight": torch.ones(1)}, "not weights of secvit"),
        ({"epoch": 3}, "no weights found: the checkpoint has the entries epoch"),
        ({}, r"no weights found.*\(none\)"),
    ],
)
def test_other_files_are_refused(state, message):
    with pytest.raises(CheckpointError, match=message):
        convert_official(state, "secvit")


def test_one_foreign_key_is_enough_to_refuse(official):
    with pytest.raises(CheckpointError, match=r"1 of \d+ keys .*layers.0.extra"):
        convert_official({**official, "layers.0.extra": torch.ones(1)}, "secvit")


def test_unknown_family(official):
    with pytest.raises(ValueError, match=r"known for 'resnet'; they are for .*secvit"):
        convert_official(official, "resnet")


class TestLoading:
    def test_classifier_into_backbone_with_fewer_stages_and_norms(self, official, network):
        backbone = SecViT(arch=network.backbone.arch, out_indices=(0, 2))
        state = convert_official(official, "secvit").state_dict
        report = load_weights(backbone, state)
        assert all(
            torch.equal(backbone.state_dict()[k], state[f"backbone.{k}"]) for k in report.loaded
        )
        assert len(report.loaded) + 4 == len(backbone.state_dict())
        assert {k.split(".")[0] for k in report.missing} == {"out_norms"}
        reasons = {reason.split()[-1] for reason in report.ignored.values()}
        assert "'backbone.'" in reasons  # the classifier
        assert any("after the last output" in reason for reason in report.ignored.values())
        assert "tensors loaded" in str(report)

    def test_missing_part_is_an_error_and_changes_nothing(self, official, network):
        state = convert_official(official, "secvit").state_dict
        del state["backbone.stages.1.blocks.0.pos.weight"]
        before = {k: v.clone() for k, v in network.state_dict().items()}
        with pytest.raises(CheckpointError, match=r"stages.1.blocks.0.pos.weight is not in the"):
            load_weights(network, state)
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())

    def test_other_shapes_are_named(self, official, network):
        state = convert_official(official, "secvit").state_dict
        state["head.fc.weight"] = torch.zeros(3, 40)
        with pytest.raises(CheckpointError, match=r"head.fc.weight is \(3, 40\), not \(10, 40\)"):
            load_weights(network, state)

    def test_weights_without_a_place_are_an_error(self, official, network):
        state = convert_official(official, "secvit").state_dict
        state["backbone.stages.0.blocks.0.layer_scale1.gamma"] = torch.ones(16)
        with pytest.raises(CheckpointError, match=r"layer_scale1.gamma has no place"):
            load_weights(network, state)

    def test_wrong_prefix(self, official, network):
        state = convert_official(official, "secvit").state_dict
        with pytest.raises(CheckpointError, match=r"0 of \d+ tensors would load"):
            load_weights(network.backbone, state, prefix="student.")


@pytest.mark.parametrize("channels", [1, 5])
def test_stems_of_rgb_are_adapted_when_asked(network, channels):
    """Images whose channels are alike give what they gave, and nothing else is adapted."""
    backbone = network.backbone.eval()
    weights = backbone.state_dict()
    options = {**SecViT.classifier_options, "in_channels": channels}
    other = SecViT(arch=backbone.arch, **options).eval()
    with pytest.raises(CheckpointError, match=r"adapt_channels=True makes one of the other"):
        load_weights(other, weights)
    report = load_weights(other, weights, adapt_channels=True)
    ((name, how),) = report.adapted.items()
    width = weights[name].shape[0]
    assert how == f"({width}, 3, 3, 3) averaged and repeated to ({width}, {channels}, 3, 3)"
    assert f"1 adapted ({how})" in str(report)
    stem = other.state_dict()[name]
    expected = weights[name].sum(1) / channels  # the mean over RGB, times 3 / C
    for band in range(channels):
        assert torch.allclose(stem[:, band], expected, atol=1e-7)
    grey = torch.randn(1, 1, 64, 64)
    for one, two in zip(
        backbone(grey.expand(-1, 3, -1, -1)),
        other(grey.expand(-1, channels, -1, -1)),
        strict=True,
    ):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_init_cfg_of_a_toolbox_loads_and_is_strict(tmp_path, official, network, suffix):
    from mmengine.registry import MODELS

    from mmeffvit.checkpoint import write_checkpoint

    state = convert_official(official, "secvit").state_dict
    write_checkpoint(state, tmp_path / f"w{suffix}")
    config = {
        "type": "mmeffvit.SecViT",
        "arch": network.backbone.arch,
        "init_cfg": {
            "type": "Pretrained",
            "checkpoint": str(tmp_path / f"w{suffix}"),
            "prefix": "backbone.",
        },
    }
    backbone = MODELS.build(config)
    backbone.init_weights()
    assert torch.equal(backbone.stem[0].weight, state["backbone.stem.0.weight"])

    del state["backbone.stem.0.weight"]
    write_checkpoint(state, tmp_path / f"w{suffix}")
    with pytest.raises(CheckpointError, match=r"stem.0.weight is not in the checkpoint"):
        MODELS.build(config).init_weights()
