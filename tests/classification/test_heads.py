"""The published classifiers inside mmpretrain's ImageClassifier: logits, losses, predictions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope

from mmeffvit.checkpoint import convert_official, load_weights, write_checkpoint
from mmeffvit.models.heads import BatchNormClassifier, ConvClassifier, NormClassifier
from mmeffvit.models.zoo import backbone_classes
from mmeffvit.testing.families import FAMILIES
from mmeffvit.testing.golden import TOLERANCES

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@pytest.fixture(autouse=True)
def _mmpretrain_scope():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        yield


def classifier(arch, num_classes=5, hidden_channels=16, family="SecViT", **kwargs):
    backbone = {"type": f"mmeffvit.{family}", "arch": arch, "out_indices": (3,), "out_norm": False}
    head = {"type": "mmeffvit.ConvClsHead", "in_channels": arch["embed_dims"][3]}
    head |= {"num_classes": num_classes, "hidden_channels": hidden_channels, **kwargs}
    return {"type": "ImageClassifier", "backbone": backbone, "head": head}


TINY = {
    "embed_dims": (8, 8, 16, 16),
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 1, 2, 2),
    "mlp_ratios": (2, 2, 2, 2),
    "num_clusters": (2, 2, 2, -1),
    "layer_scale": (None,) * 4,
}


def golden(family):
    """A golden file: config of the classifier, its tensors, the converted weights."""
    with np.load(GOLDEN / f"{family}.npz") as file:
        tensors = {key: file[key] for key in file.files}
    constructor = json.loads(str(tensors.pop("meta")))["constructor"]
    tensors = {key: torch.from_numpy(value) for key, value in tensors.items()}
    cls = backbone_classes()[family]
    config = classifier(
        FAMILIES[family].arch(constructor),
        constructor["num_classes"],
        constructor["projection"],
        cls.__name__,
    )
    official = {
        key.removeprefix("state/"): value
        for key, value in tensors.items()
        if key.startswith("state/")
    }
    return config, tensors, convert_official(official, family).state_dict


@pytest.mark.parametrize("family", ["secvit", "ravlt", "ssvit", "rmt"])
def test_published_logits(family):
    config, tensors, weights = golden(family)
    model = MODELS.build(config)
    load_weights(model, weights)
    model.eval()
    with torch.no_grad():
        logits = model(tensors["input"])
        samples = model(tensors["input"], mode="predict")
    assert (logits - tensors["out/logits"]).abs().max() < TOLERANCES[family]
    scores = tensors["out/logits"].softmax(1)
    for sample, expected in zip(samples, scores, strict=True):
        assert torch.allclose(sample.pred_score, expected, atol=1e-4)
        assert sample.pred_label == expected.argmax()


def test_converted_file_loads_into_the_classifier(tmp_path):
    """By mmpretrain's own `get_model`, with every key in its place."""
    import mmpretrain
    from mmengine.config import Config

    from mmeffvit.engine import storage  # noqa: F401, lets mmengine read .safetensors

    config, tensors, weights = golden("secvit")
    for suffix in ("pth", "safetensors"):
        path = tmp_path / f"converted.{suffix}"
        write_checkpoint(weights, path)
        model = mmpretrain.get_model(Config({"model": config}), pretrained=str(path))
        with torch.no_grad():
            assert (model(tensors["input"]) - tensors["out/logits"]).abs().max() < 1e-4


def _samples(labels):
    from mmpretrain.structures import DataSample

    return [DataSample().set_gt_label(label) for label in labels]


def test_loss_is_the_smoothed_cross_entropy_and_reaches_all_parameters():
    loss = {"type": "LabelSmoothLoss", "label_smooth_val": 0.1, "mode": "original"}
    model = MODELS.build(classifier(TINY, loss=loss)).train()
    images, labels = torch.randn(3, 3, 32, 32), [4, 0, 2]
    with torch.no_grad():  # the statistics of batch norms move, outputs of train mode do not
        logits = model(images)
    expected = F.cross_entropy(logits, torch.tensor(labels), label_smoothing=0.1)
    found = model(images, _samples(labels), mode="loss")
    assert torch.allclose(found["loss"], expected, atol=1e-6)
    found["loss"].backward()
    assert [name for name, param in model.named_parameters() if param.grad is None] == []


def test_mixed_labels_and_accuracy():
    model = MODELS.build(classifier(TINY, cal_acc=True, topk=(1, 2))).train()
    # mmpretrain counts positive scores only
    torch.nn.init.constant_(model.head.fc.bias, 10)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = model(images)
    best = logits.topk(2).indices
    found = model(images, _samples([int(best[0, 0]), int(best[1, 1])]), mode="loss")
    assert [value.item() for value in found["accuracy_top-1"]] == [50]
    assert [value.item() for value in found["accuracy_top-2"]] == [100]

    from mmpretrain.structures import DataSample

    model = MODELS.build(classifier(TINY)).train()
    with torch.no_grad():
        logits = model(images)
    mixed = torch.tensor([[0.3, 0.7, 0, 0, 0], [0, 0, 0, 0.5, 0.5]])
    samples = [DataSample().set_gt_score(score) for score in mixed]
    expected = -(mixed * logits.log_softmax(1)).sum(1).mean()
    loss = model(images, samples, mode="loss")["loss"]
    assert torch.allclose(loss, expected, atol=1e-6)


def test_features_before_the_last_layer():
    model = MODELS.build(classifier(TINY)).eval()
    images = torch.randn(2, 3, 32, 32)
    features = model.extract_feat(images, stage="pre_logits")
    assert features.shape == (2, 16)
    assert torch.equal(model.head.fc(features), model(images))


def test_without_mmpretrain_it_is_a_plain_head():
    head = ConvClassifier(16, 5, 8)
    assert set(dict(head.named_parameters())) == {
        f"{layer}.{kind}" for layer in ("proj", "norm", "fc") for kind in ("weight", "bias")
    }
    assert head((torch.zeros(1), torch.randn(2, 16, 3, 3))).shape == (2, 5)


def test_norm_head_has_a_loss_and_the_plain_heads_logits():
    plain = NormClassifier(16, 5, eps=1e-3)
    head = MODELS.build({"type": "mmeffvit.NormClsHead", "in_channels": 16, "num_classes": 5})
    assert head.norm.eps == 1e-5
    head.norm.eps = 1e-3
    head.load_state_dict(plain.state_dict())
    x = torch.randn(3, 16, 4, 7)
    mean = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-3).sqrt()
    expected = mean.mean((2, 3)) @ plain.fc.weight.T
    torch.testing.assert_close(head((x * 2, x)), expected)
    torch.testing.assert_close(plain(x), expected)
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(i) for i in range(3)]
    loss = head.loss((x,), samples)["loss"]
    torch.testing.assert_close(loss, F.cross_entropy(expected, torch.arange(3)))


def test_batch_norm_head():
    plain = BatchNormClassifier(16, 5).eval()
    torch.nn.init.normal_(plain.norm.running_mean)
    head = MODELS.build({"type": "mmeffvit.BatchNormClsHead", "in_channels": 16, "num_classes": 5})
    head.eval().load_state_dict(plain.state_dict())
    x = torch.randn(3, 16, 4, 7)
    mean = (x.mean((2, 3)) - plain.norm.running_mean) / (1 + 1e-5) ** 0.5
    expected = mean @ plain.fc.weight.T
    torch.testing.assert_close(head((x * 2, x)), expected)
    torch.testing.assert_close(plain(x), expected)
    loss = head.loss((x,), _samples([0, 1, 2]))["loss"]
    torch.testing.assert_close(loss, F.cross_entropy(expected, torch.arange(3)))
