from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmeffvit import create_backbone
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.checkpoint import CheckpointError, convert_official, load_weights
from mmeffvit.models import CSWin
from mmeffvit.models.classifier import Classifier, create_classifier

from .checks import (
    check_golden_file,
    check_implementations_agree,
    check_variant_is_converted,
    count_parameters,
    drop_path_rates,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "cswin.npz"

# the authors' counts: whole classifier, dense backbone with a norm on every output
PARAMETERS = {
    "tiny": (22_320_552, 21_808_448),
    "small": (34_643_304, 34_131_200),
    "base": (77_382_184, 76_614_528),
    "base-384": (77_382_184, 76_614_528),
    "large": (173_262_664, 172_111_680),
    "large-384": (173_262_664, 172_111_680),
}
# 10^9 multiply-accumulates of the authors' classes, with the products inside attention
CLASSIFIER_MACS = {
    ("tiny", 224): 4.324,
    ("small", 224): 6.801,
    ("base", 224): 14.955,
    ("base-384", 384): 46.964,
    ("large", 224): 33.130,
    ("large-384", 384): 101.88,
}
DENSE_MACS = {"tiny": 24.57, "small": 38.71, "base": 82.91}
SMALL = {
    "embed_dims": (8, 16, 24, 32),
    "depths": (1, 1, 2, 1),
    "num_heads": (2, 4, 4, 8),
    "mlp_ratios": (4, 4, 3, 2),
    "stripe_widths": (1, 2, 7, None),
}
#: the network of the golden file
GOLDEN_ARCH = {
    "embed_dims": (8, 16, 32, 64),
    "depths": (1, 2, 2, 1),
    "num_heads": (2, 4, 8, 16),
    "mlp_ratios": (4, 4, 4, 4),
    "stripe_widths": (1, 2, 2, None),
}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_authors_numbers(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    expected = {f"{out}/stage{i}" for out in ("out", "out2") for i in range(1, 5)}
    expected |= {f"op/lepe_{name}/out" for name in ("vertical", "horizontal", "full")}
    errors = check_golden_file(GOLDEN, "cswin", expected)
    assert errors.keys() == expected | {"out/logits"}
    # far below the family's tolerance, which would not notice another eps
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    classifier, _, dense = count_parameters(f"cswin-{variant}")
    assert (classifier, dense) == PARAMETERS[variant]


@pytest.mark.parametrize(
    ("variant", "size"),
    [c if c[0] == "tiny" else pytest.param(*c, marks=pytest.mark.slow) for c in CLASSIFIER_MACS],
)
def test_macs_of_classifiers(variant, size):
    with torch.device("meta"):
        model = create_classifier(f"cswin-{variant}")
    macs = count_complexity(model, (size, size)).total_macs / 1e9
    assert macs == pytest.approx(CLASSIFIER_MACS[variant, size], rel=1.2e-4)


@pytest.mark.parametrize(
    "variant", ["tiny", *(pytest.param(v, marks=pytest.mark.slow) for v in ("small", "base"))]
)
def test_macs_of_dense_backbones_include_padding(variant):
    with torch.device("meta"):
        model = create_backbone(f"cswin-{variant}")
    macs = count_complexity(model, (512, 512)).total_macs / 1e9
    assert macs == pytest.approx(DENSE_MACS[variant], abs=5e-3)


def test_stripes_heads_and_rates_of_each_stage():
    with torch.device("meta"):
        networks = {name: create_backbone(f"cswin-{name}") for name in PARAMETERS}
    for name, network in networks.items():
        wide = 12 if name.endswith("384") else 7
        for stage, width in zip(network.stages[:3], (1, 2, wide)):
            for block in stage.blocks:
                assert block.mixer.core.windows == ((None, width), (width, None))
        assert networks[name].stages[3].blocks[-1].mixer.core.windows == ((None, None),)
        assert network.out_channels == tuple(network.out_channels[0] * 2**i for i in range(4))
    assert [s.blocks[0].mixer.num_heads for s in networks["large"].stages] == [6, 12, 24, 24]
    assert [s.blocks[0].mixer.num_heads for s in networks["base"].stages] == [4, 8, 16, 32]
    assert networks["tiny"].stages[1].blocks[0].ffn.fc1.out_channels == 512
    rates = drop_path_rates(networks["tiny"])
    assert rates == pytest.approx([0.2 * i / 24 for i in range(25)])


def test_all_norms_have_the_authors_eps():
    network = CSWin(SMALL)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.LayerNorm)]
    # stem, merges, two in each of five blocks, outputs
    assert len(norms) == 1 + 3 + 10 + 4
    assert {norm.eps for norm in norms} == {1e-5}
    assert network.make_head(10).norm.eps == 1e-5


def test_initial_weights():
    """Linear layers are normal of std 0.02; convolutions are uniform, as PyTorch draws them."""
    backbone = create_backbone("cswin-tiny", out_indices=(0, 1))
    for name, module in backbone.named_modules():
        if not isinstance(module, torch.nn.Conv2d):
            continue
        if module.kernel_size == (1, 1):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05), name
            assert not module.bias.any(), name
        else:
            bound = module.weight[0].numel() ** -0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound, name
            assert module.bias.any(), name


@pytest.mark.parametrize("size", [(61, 64), (64, 62), (63, 33)])
def test_images_are_filled_up_to_multiples_of_four(size):
    """The authors' stem floors (61 rows of pixels make 15); here it is 16 rows, as of 64."""
    network = CSWin(SMALL).eval()
    x = torch.randn(1, 3, *size)
    padded = F.pad(x, (0, -size[1] % 4, 0, -size[0] % 4))
    for actual, expected, stride in zip(network(x), network(padded), network.out_strides):
        assert torch.equal(actual, expected)
        assert actual.shape[2:] == tuple(-(-side // stride) for side in size)


def test_reference_and_fused_agree_as_networks():
    check_implementations_agree(CSWin, SMALL, torch.randn(2, 3, 43, 58))


def official_shapes(dim, depths, classes=1000, dense=False):
    """Keys and shapes of the authors' checkpoints, as their code writes them."""
    shapes = {}

    def both(name, *weight):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    both("stage1_conv_embed.0", dim, 3, 7, 7)
    both("stage1_conv_embed.2", dim)
    for stage, depth in enumerate(depths, 1):
        width = dim * 2 ** (stage - 1)
        branches = 1 if stage == 4 else 2
        for block in range(depth):
            name = f"stage{stage}.{block}"
            both(f"{name}.qkv", 3 * width, width)
            both(f"{name}.proj", width, width)
            both(f"{name}.mlp.fc1", 4 * width, width)
            both(f"{name}.mlp.fc2", width, 4 * width)
            both(f"{name}.norm1", width)
            both(f"{name}.norm2", width)
            for j in range(branches):
                both(f"{name}.attns.{j}.get_v", width // branches, 1, 3, 3)
        if stage < 4:
            both(f"merge{stage}.conv", 2 * width, width, 3, 3)
            both(f"merge{stage}.norm", 2 * width)
        if dense:
            both(f"norm{stage}", width)
    if not dense:
        both("norm", 8 * dim)
        both("head", classes, 8 * dim)
    return shapes


class TestOfficialCheckpoints:
    @pytest.fixture(scope="class")
    def golden(self):
        with np.load(GOLDEN) as file:
            return {key: torch.from_numpy(file[key]) for key in file.files if key != "meta"}

    @pytest.fixture(scope="class")
    def official(self, golden):
        return {k.removeprefix("state/"): v for k, v in golden.items() if k.startswith("state/")}

    @pytest.mark.parametrize(
        ("variant", "dim", "depths"),
        [
            ("tiny", 64, (1, 2, 21, 1)),
            ("small", 64, (2, 4, 32, 2)),
            ("base", 96, (2, 4, 32, 2)),
            ("large", 144, (2, 4, 32, 2)),
        ],
    )
    @pytest.mark.parametrize("dense", [False, True])
    def test_published_variants(self, variant, dim, depths, dense):
        """Every key has a place, every weight of the network a key, and the variant is found."""
        shapes = official_shapes(dim, depths, dense=dense)
        check_variant_is_converted("cswin", variant, shapes, dense)

    def test_containers_and_prefixes(self, official):
        expected = convert_official(official, "cswin").state_dict
        wrapped = {f"module.{key}": value for key, value in official.items()}
        for container in ("state_dict_ema", "state_dict", "model"):
            found = convert_official({container: wrapped, "epoch": 300}, "cswin")
            assert found.container == container
            assert found.state_dict.keys() == expected.keys()
            assert all(torch.equal(found.state_dict[key], v) for key, v in expected.items())

    def test_the_classifier_reads_norm_and_the_fourth_output_norm4(self, golden, official):
        """In the file both hold the same numbers; in real checkpoints only one of them is there."""
        other = {**official, "norm4.weight": torch.full((64,), 5.0)}
        logits, maps = [], []
        for state in (official, other):
            backbone = CSWin(GOLDEN_ARCH, out_indices=(3,), out_norm=False)
            classifier = Classifier(backbone, backbone.make_head(10)).eval()
            converted = convert_official(state, "cswin").state_dict
            load_weights(classifier, converted)
            logits.append(classifier(golden["input"]))
            dense = CSWin(GOLDEN_ARCH).eval()
            load_weights(dense, converted)
            maps.append(dense(golden["input"]))
        assert torch.equal(*logits)
        assert all(torch.equal(a, b) for a, b in zip(maps[0][:3], maps[1][:3]))
        assert not torch.allclose(maps[0][3], maps[1][3])

    def test_a_segmentor_s_backbone_with_and_without_output_norms(self, official):
        segmentor = {
            f"backbone.{key}": value
            for key, value in official.items()
            if not key.startswith(("norm.", "head."))
        }
        segmentor["decode_head.conv_seg.weight"] = torch.ones(1)
        conversion = convert_official({"state_dict": segmentor}, "cswin")
        assert set(conversion.ignored) == {"decode_head.conv_seg.weight"}
        for out_norm in (True, False):
            backbone = CSWin(GOLDEN_ARCH, out_norm=out_norm)
            report = load_weights(backbone, conversion.state_dict)
            assert set(report.loaded) == set(backbone.state_dict())

    def test_output_norms_of_a_classifier_s_weights_are_new(self, official):
        state = {
            k: v for k, v in official.items() if k[:5] not in {f"norm{i}" for i in range(1, 5)}
        }
        backbone = CSWin(GOLDEN_ARCH)
        report = load_weights(backbone, convert_official(state, "cswin").state_dict)
        assert {key.split(".")[0] for key in report.missing} == {"out_norms"}
        assert set(report.ignored) == {
            f"head.{name}" for name in ("norm.weight", "norm.bias", "fc.weight", "fc.bias")
        }

    def test_other_families_are_told_apart(self, official):
        with pytest.raises(CheckpointError, match=r"not weights of rmt.* look like cswin"):
            convert_official(official, "rmt")
