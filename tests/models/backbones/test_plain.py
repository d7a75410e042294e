"""The plain ViT against mmpretrain's, and what is its own."""

import re

import pytest
import torch
from mmpretrain.models import VisionTransformer

from mmeffvit import create_backbone
from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.models import PlainViT
from mmeffvit.models.classifier import create_classifier

# of DeiT's classifiers (arXiv 2012.12877, table 1: 5M, 22M, 86M), as timm counts them
PARAMETERS = {"tiny": 5_717_416, "small": 22_050_664, "base": 86_567_656}
ARCH = {
    "embed_dims": 48,
    "depth": 12,
    "num_heads": 3,
    "mlp_ratio": 2,
    "patch_size": 16,
    "image_size": 64,
    "extra_tokens": 1,
    "window_sizes": None,
    "layer_scale": None,
}


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    with torch.device("meta"):
        classifier = create_classifier(f"vit-{variant}")
    assert sum(p.numel() for p in classifier.parameters()) == PARAMETERS[variant]


def timm_name(name):
    """A key of mmpretrain's under the name that DeiT and timm give it."""
    name = name.replace("patch_embed.projection", "patch_embed.proj")
    name = re.sub(r"^layers\.", "blocks.", name).replace("ffn.layers.0.0", "mlp.fc1")
    name = name.replace("ffn.layers.1", "mlp.fc2").replace(".ln", ".norm")
    return re.sub(r"^ln1\.", "norm.", name)


@pytest.fixture(scope="module")
def upstream():
    """mmpretrain's network, whose first output has no norm and whose last one has."""
    torch.manual_seed(0)
    arch = {"embed_dims": 48, "num_layers": 12, "num_heads": 3, "feedforward_channels": 96}
    network = VisionTransformer(arch, img_size=64, out_type="featmap", out_indices=[4, 11])
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    network.eval()
    state = {timm_name(key): value for key, value in network.state_dict().items()}
    return network, convert_official(state, "vit").state_dict


@pytest.mark.parametrize("size", [(64, 64), (80, 112), (75, 101)])
def test_equals_mmpretrains(upstream, size):
    network, state = upstream
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = network(x)
        for index, out_norm, theirs in ((4, False, expected[0]), (11, True, expected[1])):
            ours = PlainViT(ARCH, out_indices=(index,), out_norm=out_norm).eval()
            report = load_weights(ours, state)
            assert not report.missing
            (actual,) = ours(x)
            torch.testing.assert_close(actual, theirs, atol=1e-5, rtol=1e-5)


def test_class_token_equals_mmpretrains(upstream):
    network, state = upstream
    network.out_type = "cls_token"
    ours = PlainViT(ARCH, **PlainViT.classifier_options).eval()
    load_weights(ours, state)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(x)[-1]
        (actual,) = ours(x)
    network.out_type = "featmap"
    assert actual.shape == (2, 48, 1, 1)
    torch.testing.assert_close(actual.flatten(1), expected, atol=1e-5, rtol=1e-5)


def test_tables_of_another_size_are_resized(upstream):
    _, state = upstream
    ours = PlainViT({**ARCH, "image_size": 112})
    report = load_weights(ours, state)
    assert report.adapted == {"position.table": "(1, 17, 48) resized to (1, 50, 48)"}
    torch.testing.assert_close(
        ours.position.table, ours.position.fitted(state["backbone.position.table"])
    )


def test_windows_and_layer_scale():
    arch = {**ARCH, "depth": 2, "extra_tokens": 0, "window_sizes": (3, None), "layer_scale": 0.1}
    backbone = PlainViT(arch)
    assert [b.mixer.core.window_size for b in backbone.blocks] == [3, None]
    assert backbone.blocks[0].layer_scale1.gamma.unique().item() == pytest.approx(0.1)
    with pytest.raises(ValueError, match="windows hold tokens of the map alone"):
        PlainViT({**ARCH, "window_sizes": 14})
    with pytest.raises(ValueError, match=r"has 2 entries for 12 blocks"):
        PlainViT({**ARCH, "extra_tokens": 0, "window_sizes": (3, None)})
    with pytest.raises(ValueError, match="got 'class_token' with extra_tokens=0"):
        PlainViT(arch, out_type="class_token")


def test_norms_positions_and_drop_path():
    backbone = create_backbone("vit-tiny")
    norms = [n for b in backbone.blocks for n in (b.norm1, b.norm2)]
    assert {n.eps for n in [*norms, *backbone.out_norms.values()]} == {1e-6}
    rates = [b.drop_path.drop_prob for b in backbone.blocks]
    assert rates == pytest.approx([0.1 * i / 11 for i in range(12)])
    assert (backbone.position.size, backbone.position.mode) == ((14, 14), "bicubic")


def test_depths_are_those_of_mmpretrain(upstream):
    network, _ = upstream
    ours = PlainViT(ARCH)
    names = ("blocks.3.norm1.weight", "position.table", "patch_embed.weight", "out_norms.11.bias")
    theirs = ("layers.3.ln1.weight", "pos_embed", "patch_embed.projection.weight", "ln1.bias")
    for name, other in zip(names, theirs):
        assert ours.get_layer_depth(name) == network.get_layer_depth(other)
    assert ours.get_layer_depth("extra_tokens.weight") == network.get_layer_depth("cls_token")
