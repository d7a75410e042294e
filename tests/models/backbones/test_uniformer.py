from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmeffvit import create_backbone
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.checkpoint import CheckpointError, convert_official, load_weights
from mmeffvit.layers import LocalConvMixer, SoftmaxMixer
from mmeffvit.models import UniFormer
from mmeffvit.models.classifier import create_classifier
from mmeffvit.testing import golden_weights

from .checks import (
    check_golden_file,
    check_implementations_agree,
    check_variant_is_converted,
    count_parameters,
    drop_path_rates,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "uniformer.npz"

# the authors' counts: whole classifiers
PARAMETERS = {
    "small": 21_545_256,
    "small-plus": 24_032_552,
    "small-plus-dim64": 24_032_552,
    "base": 49_776_552,
    "base-ls": 49_796_520,
    "large": 99_457_768,
}
# dense backbones, with a norm on every output
DENSE_PARAMETERS = {"small": 21_033_280, "base": 49_264_576}
# 10^9 multiply-accumulates at 224 x 224, with the products inside attention
MACS = {"small": 3.6318, "small-plus": 4.2010, "base": 8.2490, "large": 19.683}
SMALL = {
    "embed_dims": (8, 16, 24, 32),
    "depths": (1, 1, 5, 1),
    "head_dim": 8,
    "mlp_ratio": 3,
    "conv_stem": False,
    "layer_scale": 0.5,
}


def test_equals_the_authors_numbers():
    expected = {f"out{kind}/stage{i}" for kind in ("", "_windows", "_global") for i in range(1, 5)}
    expected |= {"op/sablock_windows/out", "convstem_out/stage1_raw", "convstem_out/logits"}
    errors = check_golden_file(GOLDEN, "uniformer", expected)
    assert errors.keys() == expected | {"out/logits"}
    # far below the family's tolerance, which would not notice another eps
    assert max(errors.values()) < 2e-5


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    classifier, backbone, dense = count_parameters(f"uniformer-{variant}")
    width = UniFormer.arch_zoo[variant]["embed_dims"]
    assert classifier == PARAMETERS[variant]
    assert backbone == classifier - 1000 * (width[-1] + 1) - 2 * width[-1]
    assert dense == backbone + 2 * sum(width)
    assert dense == DENSE_PARAMETERS.get(variant, dense)


def test_large_with_the_other_stem():
    arch = {**UniFormer.arch_zoo["large"], "conv_stem": True}
    with torch.device("meta"):
        backbone = UniFormer(arch, out_norm=False)
        head = backbone.make_head(1000)
    count = sum(p.numel() for module in (backbone, head) for p in module.parameters())
    assert count == 101_513_832


@pytest.mark.parametrize("variant", MACS)
def test_macs_of_classifiers(variant):
    with torch.device("meta"):
        model = create_classifier(f"uniformer-{variant}")
    macs = count_complexity(model, (224, 224)).total_macs / 1e9
    assert macs == pytest.approx(MACS[variant], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "published"),
    [
        ({"attention": "hybrid"}, 22.60),
        ({"attention": "global"}, 23.48),
        # the map of stage 2 is one window
        ({"attention": "windows", "window_size": 32}, 23.48),
    ],
)
def test_macs_of_dense_backbones(options, published):
    with torch.device("meta"):
        model = create_backbone("uniformer-small", **options)
    macs = count_complexity(model, (512, 512)).total_macs / 1e9
    if options["attention"] == "hybrid":
        # six blocks fill up 32 x 32 tokens to 42 x 42, which the authors project as well
        macs += 6 * (42**2 - 32**2) * 4 * 320**2 / 1e9
    assert macs == pytest.approx(published, abs=5e-3)


def windows(network, stage=2):
    return [block.mixer.core.window_size for block in network.stages[stage].blocks]


class TestAttention:
    @pytest.mark.parametrize(
        ("attention", "expected"),
        [
            ("hybrid", [14, 14, 14, None, 14, 14, 14, None]),
            ("windows", [14] * 8),
            ("global", [None] * 8),
        ],
    )
    def test_of_the_third_stage(self, attention, expected):
        with torch.device("meta"):
            network = create_backbone("uniformer-small", attention=attention)
        assert windows(network) == expected
        assert windows(network, 3) == [None] * 3
        for stage in network.stages[:2]:
            assert all(isinstance(block.mixer, LocalConvMixer) for block in stage.blocks)

    def test_every_fourth_block_of_base(self):
        with torch.device("meta"):
            network = create_backbone("uniformer-base", window_size=32)
        whole = [i for i, window in enumerate(windows(network)) if window is None]
        assert whole == [3, 7, 11, 15, 19]
        assert set(windows(network)) == {None, 32}

    def test_heads(self):
        with torch.device("meta"):
            networks = [create_backbone(f"uniformer-{v}") for v in ("small", "small-plus", "large")]
        heads = [[stage.blocks[0].mixer.num_heads for stage in n.stages[2:]] for n in networks]
        assert heads == [[5, 8], [10, 16], [7, 10]]

    def test_classifiers_attend_to_the_map(self):
        with torch.device("meta"):
            classifier = create_classifier("uniformer-small")
        assert windows(classifier.backbone) == [None] * 8

    def test_one_window_is_the_map(self):
        torch.manual_seed(0)
        networks = [UniFormer(SMALL, attention=kind).eval() for kind in ("windows", "global")]
        networks[1].load_state_dict(networks[0].state_dict())
        x = torch.randn(1, 3, 224, 224)
        for actual, expected in zip(*(network(x) for network in networks), strict=True):
            torch.testing.assert_close(actual, expected)

    def test_impossible(self):
        with pytest.raises(ValueError, match="one of hybrid, windows, global, got 'local'"):
            UniFormer(SMALL, attention="local")
        with pytest.raises(ValueError, match=r"embed_dims\[2\]=24 is less than head_dim=64"):
            UniFormer({**SMALL, "head_dim": 64})
        with pytest.raises(ValueError, match="window_size must be at least 1 or None, got 0"):
            UniFormer(SMALL, window_size=0)


class TestSizes:
    @pytest.mark.parametrize("size", [(90, 70), (33, 127), (64, 96)])
    def test_published_maps_round_down(self, size):
        network = UniFormer(SMALL, drop_rest=True).eval()
        expected = []
        rows, columns = size
        for stride in (4, 2, 2, 2):
            rows, columns = rows // stride, columns // stride
            expected.append((rows, columns))
        x = torch.randn(1, 3, *size)
        outs = network(x)
        assert [tuple(out.shape[2:]) for out in outs] == expected
        # what is dropped does not count
        x[..., rows * 32 + 31 :, :] = 100
        assert size[0] % 32 != 31 or all(map(torch.equal, outs, network(x)))

    @pytest.mark.parametrize("size", [(90, 70), (33, 127)])
    def test_patches_are_filled_up_with_zeros(self, size):
        """A map is that of the image, or the map before, filled up to whole patches."""
        network, plain = UniFormer(SMALL).eval(), UniFormer(SMALL, drop_rest=True).eval()
        plain.load_state_dict(network.state_dict())
        x = torch.randn(1, 3, *size)
        modules = [network.stem, *(stage.downsample for stage in network.stages[1:])]
        others = [plain.stem, *(stage.downsample for stage in plain.stages[1:])]
        for stride, module, other in zip((4, 2, 2, 2), modules, others):
            filled = F.pad(x, (0, -x.shape[3] % stride, 0, -x.shape[2] % stride))
            torch.testing.assert_close(module(x), other(filled))
            x = module(x)
        assert tuple(x.shape[2:]) == tuple(-(-side // 32) for side in size)

    def test_nothing_changes_at_multiples_of_32(self):
        network, plain = UniFormer(SMALL).eval(), UniFormer(SMALL, drop_rest=True).eval()
        plain.load_state_dict(network.state_dict())
        x = torch.randn(1, 3, 64, 96)
        assert all(map(torch.equal, network(x), plain(x)))


def test_norms_are_those_of_the_authors():
    network = UniFormer(SMALL)
    assert [type(b.norm1) for s in network.stages for b in s.blocks[:1]][:2] == [nn.BatchNorm2d] * 2
    eps = {
        name: module.eps
        for name, module in network.named_modules()
        if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d))
    }
    assert len(eps) == 4 + 2 * 8 + 4
    for name, value in eps.items():
        ours = name.startswith(("stages.2.blocks", "stages.3.blocks", "out_norms"))
        assert value == (1e-6 if ours else 1e-5), name


def test_layer_scale_is_of_the_last_two_stages():
    with torch.device("meta"):
        state = create_backbone("uniformer-base-ls").state_dict()
    scaled = {name.split(".")[1] for name in state if "layer_scale" in name}
    assert scaled == {"2", "3"}


def test_initial_weights():
    """Linear layers, which start in stage 2, are normal; convolutions are PyTorch's."""
    network = UniFormer({**SMALL, "embed_dims": (64, 64, 64, 64)})
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            linear = module.kernel_size == (1, 1) and name[7] in "23"
            bound = module.weight[0].numel() ** -0.5
            if linear:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.05), name
                assert not module.bias.any(), name
            else:
                assert 0.9 * bound < module.weight.abs().max() <= bound, name
    with torch.device("meta"):
        rates = drop_path_rates(create_backbone("uniformer-small"))
    assert rates == pytest.approx([0.1 * i / 17 for i in range(18)])


def test_reference_and_fused_agree_as_networks():
    check_implementations_agree(UniFormer, SMALL, torch.randn(2, 3, 43, 58))


def official_shapes(arch, classes=1000, dense=False):
    """Keys and shapes of the authors' checkpoints, as their code writes them."""
    shapes = {}

    def both(name, *weight):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    def batch_norm(name, dim):
        both(name, dim)
        shapes[f"{name}.running_mean"] = shapes[f"{name}.running_var"] = (dim,)
        shapes[f"{name}.num_batches_tracked"] = ()

    before = 3
    for stage, (dim, depth) in enumerate(zip(arch["embed_dims"], arch["depths"]), 1):
        embed = f"patch_embed{stage}"
        if not arch["conv_stem"]:
            side = 4 if stage == 1 else 2
            both(f"{embed}.proj", dim, before, side, side)
            both(f"{embed}.norm", dim)
        elif stage == 1:
            both(f"{embed}.proj.0", dim // 2, 3, 3, 3)
            batch_norm(f"{embed}.proj.1", dim // 2)
            both(f"{embed}.proj.3", dim, dim // 2, 3, 3)
            batch_norm(f"{embed}.proj.4", dim)
        else:
            both(f"{embed}.proj.0", dim, before, 3, 3)
            batch_norm(f"{embed}.proj.1", dim)
        for i in range(depth):
            name = f"blocks{stage}.{i}"
            both(f"{name}.pos_embed", dim, 1, 3, 3)
            if stage <= 2:
                batch_norm(f"{name}.norm1", dim)
                batch_norm(f"{name}.norm2", dim)
                both(f"{name}.conv1", dim, dim, 1, 1)
                both(f"{name}.conv2", dim, dim, 1, 1)
                both(f"{name}.attn", dim, 1, 5, 5)
                both(f"{name}.mlp.fc1", 4 * dim, dim, 1, 1)
                both(f"{name}.mlp.fc2", dim, 4 * dim, 1, 1)
                continue
            both(f"{name}.norm1", dim)
            both(f"{name}.norm2", dim)
            both(f"{name}.attn.qkv", 3 * dim, dim)
            both(f"{name}.attn.proj", dim, dim)
            both(f"{name}.mlp.fc1", 4 * dim, dim)
            both(f"{name}.mlp.fc2", dim, 4 * dim)
            if arch["layer_scale"] is not None:
                shapes[f"{name}.gamma_1"] = shapes[f"{name}.gamma_2"] = (dim,)
        if dense:
            both(f"norm{stage}", dim)
        before = dim
    if not dense:
        batch_norm("norm", before)
        both("head", classes, before)
    return shapes


class TestOfficialCheckpoints:
    @pytest.mark.parametrize("variant", ["small", "small-plus", "base", "base-ls", "large"])
    @pytest.mark.parametrize("dense", [False, True])
    def test_published_variants(self, variant, dense):
        """Every key has a place, every weight of the network a key, and the variant is found."""
        shapes = official_shapes(UniFormer.arch_zoo[variant], dense=dense)
        check_variant_is_converted("uniformer", variant, shapes, dense)

    def test_a_classifier_s_weights_in_a_dense_backbone(self):
        official = {
            key: value
            for key, value in golden_weights(GOLDEN).items()
            if not key.startswith(tuple(OUT_NORMS))
        }
        backbone = UniFormer({**SMALL, "mlp_ratio": 4, "layer_scale": None})
        report = load_weights(backbone, convert_official(official, "uniformer").state_dict)
        assert {key.split(".")[0] for key in report.missing} == {"out_norms"}
        assert {key.split(".")[0] for key in report.ignored} == {"head"}
        with pytest.raises(CheckpointError, match=r"not weights of cswin.* look like uniformer"):
            convert_official(official, "cswin")


OUT_NORMS = {f"norm{i}." for i in range(1, 5)}


def test_mixers_of_a_block():
    network = UniFormer(SMALL)
    assert [type(stage.blocks[0].mixer) for stage in network.stages] == [
        *(LocalConvMixer, LocalConvMixer, SoftmaxMixer, SoftmaxMixer)
    ]
    assert network.stages[0].blocks[0].mixer.affinity.kernel_size == (5, 5)
