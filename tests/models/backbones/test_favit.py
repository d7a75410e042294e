from pathlib import Path

import pytest
import torch
from torch import nn

from mmeffvit import create_backbone
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.checkpoint import CheckpointError, convert_official, load_weights
from mmeffvit.models import FaViT
from mmeffvit.models.classifier import Classifier, create_classifier
from mmeffvit.testing import golden_weights

from .checks import (
    TensorSizes,
    check_golden_file,
    check_implementations_agree,
    check_variant_is_converted,
    count_parameters,
    drop_path_rates,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "favit.npz"

# the authors' counts of classifiers, and 10^9 multiply-accumulates at 224 x 224
PARAMETERS = {"b0": 3_427_704, "b1": 12_958_568, "b2": 24_919_896, "b3": 48_746_440}
MACS = {"b0": 0.632, "b1": 2.344, "b2": 4.458, "b3": 8.512}
SMALL = {
    "embed_dims": (16, 32, 32, 16),
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 2, 2, 7),
    "mlp_ratios": (2, 1, 2, 1),
    "reductions": (3, 2, 2, 1),
    "window_size": 3,
}
#: the network of the golden file
GOLDEN_ARCH = {
    "embed_dims": (32, 32, 64, 64),
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 2, 2, 4),
    "mlp_ratios": (3, 2, 2, 2),
    "reductions": (3, 2, 2, 1),
    "window_size": 7,
}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_authors_numbers(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    expected = {f"out/stage{i}" for i in range(1, 5)} | {"op/attn_sr1/out", "op/attn_sr2/out"}
    errors = check_golden_file(GOLDEN, "favit", expected)
    assert errors.keys() == expected | {"out/logits"}
    # far below the family's tolerance, which would not notice another eps
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    classifier, backbone, dense = count_parameters(f"favit-{variant}")
    width = FaViT.arch_zoo[variant]["embed_dims"][-1]
    assert classifier == PARAMETERS[variant]
    # the norms on the maps are those that stages end with
    assert backbone == dense == classifier - 1000 * (width + 1)


@pytest.mark.parametrize("variant", MACS)
def test_macs_of_classifiers(variant):
    with torch.device("meta"):
        model = create_classifier(f"favit-{variant}")
    macs = count_complexity(model, (224, 224)).total_macs / 1e9
    # the authors' counts leave out how summaries are made
    assert macs == pytest.approx(MACS[variant], rel=1e-2)


def test_parts_of_each_stage():
    with torch.device("meta"):
        network = create_backbone("favit-b2")
    blocks = [stage.blocks[-1] for stage in network.stages]
    dilations = [[keys.dilation for keys in block.mixer.summaries] for block in blocks]
    assert dilations == [[1, 8], [1, 4], [1, 2], [1]]
    assert [block.mixer.num_heads for block in blocks] == [1, 2, 4, 8]
    assert [block.mixer.reduced.reduction for block in blocks] == [8, 4, 2, 1]
    assert [block.ffn.fc1.out_channels for block in blocks] == [512, 768, 1024, 2048]
    rates = drop_path_rates(network)
    assert rates == pytest.approx([0.1 * i / 25 for i in range(26)])


def test_norms_are_those_of_the_authors():
    eps = {n: m.eps for n, m in FaViT(SMALL).named_modules() if isinstance(m, nn.LayerNorm)}
    # stem and merges, three in each of five blocks, one at the end of a stage
    assert len(eps) == 4 + 15 + 4
    for name, value in eps.items():
        embedding = name.startswith("stem") or "downsample" in name or "mixer" in name
        assert value == (1e-5 if embedding else 1e-6), name


def test_the_norm_of_a_stage_is_read_by_the_next():
    network = FaViT(SMALL).eval()
    raw = FaViT(SMALL, out_indices=(3,)).eval()
    raw.load_state_dict(network.state_dict())
    assert raw.state_dict().keys() == network.state_dict().keys()
    x = torch.randn(1, 3, 64, 64)
    before = network(x)
    nn.init.constant_(network.stages[0].norm.weight, 0.5)
    after = network(x)
    torch.testing.assert_close(after[0], before[0] * 0.5)
    # the next embedding has a norm of its own, whose eps alone notices
    nn.init.normal_(network.stages[0].norm.weight)
    assert not torch.allclose(network(x)[3], before[3], atol=1e-2)


@pytest.mark.parametrize("size", [(32, 32), (33, 50), (96, 320), (97, 61)])
def test_images_that_the_authors_code_refuses(size):
    """A map smaller than its reflection is reflected again, in each of the four stages."""
    networks = [FaViT(GOLDEN_ARCH, implementation=i).eval() for i in ("fused", "reference")]
    networks[1].load_state_dict(networks[0].state_dict())
    x = torch.randn(1, 3, *size)
    for actual, expected in zip(*(network(x) for network in networks), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_reference_and_fused_agree_as_networks():
    check_implementations_agree(FaViT, SMALL, torch.randn(2, 3, 43, 58))


def test_no_tensor_grows_with_the_square_of_the_area():
    """Weights of all pairs would have 256 x 4096 numbers at stage 0; an unfolded map 4096 x 28."""
    network = FaViT({**FaViT.arch_zoo["b0"], "depths": (1, 1, 1, 1)}, out_indices=(0,)).eval()
    with TensorSizes() as tensors, torch.no_grad():
        network(torch.randn(1, 3, 256, 256))
    # the wide part of the feed-forward network is the largest
    assert max(tensors.sizes) == 64 * 64 * 32 * 8


def test_initial_weights():
    network = FaViT({**SMALL, "embed_dims": (112, 112, 112, 112), "num_heads": (7, 7, 7, 7)})
    linear = ("q", "kv", "proj", "fc", "fc1", "fc2")
    for name, module in network.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            continue
        assert not module.bias.any(), name
        if name.split(".")[-1] in linear:
            expected = 0.02
        else:
            kernel = module.weight[0, 0].numel()
            expected = (2 * module.groups / (kernel * module.out_channels)) ** 0.5
        error = 4 / module.weight.numel() ** 0.5
        assert module.weight.std().item() == pytest.approx(expected, rel=max(error, 0.03)), name


def official_shapes(arch, classes=1000):
    """Keys and shapes of the authors' checkpoints, as their code writes them."""
    shapes = {}

    def both(name, *weight):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    before = 3
    for i, dim in enumerate(arch["embed_dims"], 1):
        reduction, heads = arch["reductions"][i - 1], arch["num_heads"][i - 1]
        hidden = arch["mlp_ratios"][i - 1] * dim
        both(f"patch_embed{i}.proj", dim, before, *((7, 7) if i == 1 else (3, 3)))
        both(f"patch_embed{i}.norm", dim)
        both(f"norm{i}", dim)
        parts = 2 if reduction > 1 else 1
        small = dim // 8
        local = (dim - small) // parts
        for j in range(arch["depths"][i - 1]):
            block = f"block{i}.{j}"
            both(f"{block}.norm1", dim)
            both(f"{block}.norm2", dim)
            both(f"{block}.attn.q", dim, dim)
            both(f"{block}.attn.proj", dim, dim)
            both(f"{block}.attn.kv_g", 2 * small, small)
            both(f"{block}.attn.sr", small, small, reduction, reduction)
            both(f"{block}.attn.norm", small)
            both(f"{block}.attn.local_conv_g", small, 1, 3, 3)
            both(f"{block}.attn.kv_l.depth_conv", dim - small, 1, 3, 3)
            both(f"{block}.attn.kv_l.point_conv", dim - small, dim - small, 1, 1)
            for part in range(parts):
                width = local // heads
                both(f"{block}.attn.fcs.{part}", width, width)
                both(f"{block}.attn.single_heads.{part}", 2 * width, width)
                both(f"{block}.attn.local_convs.{part}", local, 1, 3, 3)
            both(f"{block}.mlp.fc1", hidden, dim)
            both(f"{block}.mlp.fc2", dim, hidden)
            both(f"{block}.mlp.dwconv.dwconv", hidden, 1, 3, 3)
        before = dim
    if classes:
        both("head", classes, before)
    return shapes


class TestOfficialCheckpoints:
    @pytest.mark.parametrize("variant", PARAMETERS)
    @pytest.mark.parametrize("dense", [False, True])
    def test_published_variants(self, variant, dense):
        """Every key has a place, every weight of the network a key, and the variant is found."""
        shapes = official_shapes(FaViT.arch_zoo[variant], 0 if dense else 1000)
        check_variant_is_converted("favit", variant, shapes, dense)

    def test_golden_weights_load_whole(self):
        official = golden_weights(GOLDEN)
        backbone = FaViT(GOLDEN_ARCH, out_indices=(3,))
        classifier = Classifier(backbone, backbone.make_head(10))
        report = load_weights(classifier, convert_official(official, "favit").state_dict)
        assert set(report.loaded) == set(classifier.state_dict())
        assert not report.missing
        assert not report.ignored
        with pytest.raises(CheckpointError, match=r"not weights of rmt.* look like favit"):
            convert_official(official, "rmt")
