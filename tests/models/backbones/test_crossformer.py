from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmeffvit import create_backbone
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.checkpoint import CheckpointError, convert_official, load_weights
from mmeffvit.models import CrossFormer
from mmeffvit.models.classifier import Classifier, create_classifier
from mmeffvit.testing import golden_weights

from .checks import (
    check_golden_file,
    check_implementations_agree,
    check_variant_is_converted,
    count_parameters,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "crossformer.npz"

# the authors' counts of whole classifiers
PARAMETERS = {
    "tiny": 27_776_794,
    "small": 30_657_394,
    "base": 51_971_554,
    "large": 91_971_184,
    "plus-small": 23_325_340,
    "plus-base": 51_994_594,
    "plus-large": 92_001_904,
    "plus-huge": 95_962_944,
}
# 10^9 multiply-accumulates of the authors' classes, 224 x 224: of ++ with 15 % of padded tokens in
# the first two stages, of which there are none here
MACS = {"tiny": 2.857, "small": 4.906, "base": 9.159, "large": 16.108}
MACS_WITH_PADDING = {"plus-small": 4.428, "plus-base": 9.592}
SMALL = {
    "embed_dims": (16, 32, 32, 48),
    "depths": (3, 2, 2, 1),
    "num_heads": (1, 2, 2, 4),
    "mlp_ratios": (4, 4, 3, 2),
    "group_sizes": (3, 2, 2, 2),
    "intervals": (2, 3, 1, 1),
    "cooling": True,
}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_authors_numbers(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    expected = {f"{out}/stage{i}" for out in ("out", "out_adaptive") for i in range(1, 5)}
    expected |= {"op/lda_block/out", "op/dpb/out"}
    errors = check_golden_file(GOLDEN, "crossformer", expected)
    assert errors.keys() == expected | {"out/logits"}
    # far below the family's tolerance, which would not notice another GELU
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    assert count_parameters(f"crossformer-{variant}")[0] == PARAMETERS[variant]


@pytest.mark.parametrize(
    "variant",
    ["tiny", *(pytest.param(v, marks=pytest.mark.slow) for v in ("small", "base", "large"))],
)
def test_macs(variant):
    with torch.device("meta"):
        classifier = create_classifier(f"crossformer-{variant}")
    macs = count_complexity(classifier, (224, 224)).total_macs / 1e9
    assert macs == pytest.approx(MACS[variant], abs=6e-4)


@pytest.mark.slow
@pytest.mark.parametrize("variant", MACS_WITH_PADDING)
def test_macs_of_plus_leave_padding_out(variant):
    with torch.device("meta"):
        classifier = create_classifier(f"crossformer-{variant}")
    macs = count_complexity(classifier, (224, 224)).total_macs / 1e9
    assert 0.985 < macs / MACS_WITH_PADDING[variant] < 0.995


def test_groups_intervals_and_cooling_of_each_block():
    with torch.device("meta"):
        networks = {
            (name, dense): create_backbone(f"crossformer-{name}", dense_groups=dense)
            for name in ("tiny", "plus-small", "plus-huge")
            for dense in (False, True)
        }
    for (name, dense), network in networks.items():
        usual = dense or name == "tiny"
        groups = (7, 7, 7, 7) if usual else (4, 4, 14, 7)
        intervals = (8, 4, 2, 1) if usual else (4, 2, 1, 1)
        for stage, group, interval in zip(network.stages, groups, intervals):
            mixers = [block.block.mixer for block in stage.blocks]
            assert {m.group_size for m in mixers} == {group}
            assert [m.interval for m in mixers] == [
                interval if i % 2 else None for i in range(len(mixers))
            ]
            assert {m.head_dim for m in mixers} == {32}
    cooled = {
        name: [
            [i for i, b in enumerate(s.blocks) if not isinstance(b.cooling, torch.nn.Identity)]
            for s in networks[name, False].stages
        ]
        for name in ("tiny", "plus-small", "plus-huge")
    }
    assert cooled["tiny"] == [[], [], [], []]
    assert cooled["plus-small"] == [[], [], [2, 5, 8, 11, 14], []]
    # not after the last block of a stage
    assert cooled["plus-huge"] == [[2], [2], [2, 5, 8, 11, 14], []]
    blocks = [b for s in networks["plus-small", False].stages for b in s.blocks]
    rates = [block.block.drop_path.drop_prob for block in blocks]
    assert rates == pytest.approx([0.2 * i / 23 for i in range(24)])


def test_adaptive_intervals_are_those_of_distant_groups_alone():
    network = CrossFormer(SMALL, adaptive_interval=True)
    mixers = [block.block.mixer for block in network.stages[0].blocks]
    assert [m.interval for m in mixers] == [None, "adaptive", None]


def test_all_norms_have_the_authors_eps():
    network = CrossFormer(SMALL, out_norm=False)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.LayerNorm)]
    # stem, merges, two and three of positions in each of eight blocks, one cooling layer less last
    assert len(norms) == 1 + 3 + 8 * 5
    assert {norm.eps for norm in norms} == {1e-5}
    assert network.make_head(10).norm.eps == 1e-5


def test_initial_weights():
    """Linear layers are normal of std 0.02; convolutions are uniform, as PyTorch draws them."""
    backbone = create_backbone("crossformer-small", out_indices=(0, 1))
    for name, module in backbone.named_modules():
        if isinstance(module, torch.nn.Linear) or getattr(module, "kernel_size", None) == (1, 1):
            if module.weight.numel() > 1000:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.05), name
            assert not module.bias.any(), name
        elif isinstance(module, torch.nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound, name


@pytest.mark.parametrize("size", [(61, 64), (64, 62), (63, 33), (37, 131)])
def test_images_are_filled_up_to_multiples_of_four_and_maps_to_even_sides(size):
    """The authors' stem floors, and their merges refuse; at multiples of 32 nothing is added."""
    network = CrossFormer(SMALL).eval()
    x = torch.randn(1, 3, *size)
    padded = F.pad(x, (0, -size[1] % 4, 0, -size[0] % 4))
    for actual, expected, stride in zip(network(x), network(padded), network.out_strides):
        assert torch.equal(actual, expected)
        assert actual.shape[2:] == tuple(-(-side // stride) for side in size)
    merge = network.stages[1].downsample
    odd = torch.randn(1, 16, 5, 7)
    normed = F.pad(merge.norm(odd), (0, 1, 0, 1))
    parts = [conv(normed) for conv in merge.embed.convs]
    assert torch.equal(merge(odd), torch.cat(parts, 1))


def test_reference_and_fused_agree_as_networks():
    check_implementations_agree(CrossFormer, SMALL, torch.randn(2, 3, 43, 58))


def test_a_small_image_changes_nothing_for_the_next_one():
    network = CrossFormer({**SMALL, "group_sizes": (7, 7, 7, 7)}).eval()
    x = torch.randn(1, 3, 64, 96)
    before = network(x)
    network(torch.randn(1, 3, 32, 32))
    assert all(torch.equal(a, b) for a, b in zip(network(x), before))


def official_shapes(dim, depths, heads, cooling, classes=1000):
    """Keys and shapes of the authors' checkpoints, as their code writes them."""
    shapes = {}

    def both(name, *weight):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    for i, (kernel, share) in enumerate(zip((4, 8, 16, 32), (2, 4, 8, 8))):
        both(f"patch_embed.projs.{i}", dim // share, 3, kernel, kernel)
    both("patch_embed.norm", dim)
    for stage, depth in enumerate(depths):
        width, p = dim * 2**stage, dim * 2**stage // 16
        for i in range(depth):
            name = f"layers.{stage}.blocks.{i}"
            both(f"{name}.norm1", width)
            both(f"{name}.norm2", width)
            both(f"{name}.attn.qkv", 3 * width, width)
            both(f"{name}.attn.proj", width, width)
            both(f"{name}.mlp.fc1", 4 * width, width)
            both(f"{name}.mlp.fc2", width, 4 * width)
            both(f"{name}.attn.pos.pos_proj", p, 2)
            for j, out in ((1, p), (2, p), (3, heads * 2**stage)):
                both(f"{name}.attn.pos.pos{j}.0", p)
                both(f"{name}.attn.pos.pos{j}.2", out, p)
            if cooling and i % 3 == 2 and i + 1 < depth:
                both(f"{name}.ex_conv", width, 1, 3, 3)
                both(f"{name}.ex_ln", width)
        if stage < 3:
            for j, kernel in enumerate((2, 4)):
                both(f"layers.{stage}.downsample.reductions.{j}", width, width, kernel, kernel)
            both(f"layers.{stage}.downsample.norm", width)
    both("norm", 8 * dim)
    both("head", classes, 8 * dim)
    return shapes


class TestOfficialCheckpoints:
    @pytest.fixture(scope="class")
    def official(self):
        return golden_weights(GOLDEN)

    @pytest.mark.parametrize(
        ("variant", "dim", "depths", "heads"),
        [
            ("tiny", 64, (1, 1, 8, 6), 2),
            ("small", 96, (2, 2, 6, 2), 3),
            ("plus-small", 64, (2, 2, 18, 2), 2),
            ("plus-huge", 128, (6, 6, 18, 2), 4),
        ],
    )
    def test_published_variants(self, variant, dim, depths, heads):
        """Every key has a place, every weight of the network a key, and the variant is found."""
        shapes = official_shapes(dim, depths, heads, variant.startswith("plus"))
        check_variant_is_converted("crossformer", variant, shapes)

    def test_tables_of_older_files_are_ignored_with_a_note(self, official):
        tables = {
            "layers.0.blocks.1.attn.biases": torch.zeros(49, 2),
            "layers.0.blocks.1.attn.relative_position_index": torch.zeros(16, 16),
            "layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16),
        }
        conversion = convert_official({**official, **tables}, "crossformer")
        assert set(conversion.ignored) == set(tables)

    def test_a_detector_s_backbone(self, official):
        detector = {
            f"backbone.{key}": value
            for key, value in official.items()
            if not key.startswith(("norm.", "head."))
        }
        state = convert_official({"state_dict": detector}, "crossformer").state_dict
        arch = {
            "embed_dims": (16, 32, 64, 128),
            "depths": (2, 2, 4, 2),
            "num_heads": (2, 2, 4, 4),
            "mlp_ratios": (4, 4, 4, 4),
            "group_sizes": (4, 4, 3, 3),
            "intervals": (4, 2, 2, 1),
            "cooling": True,
        }
        backbone = CrossFormer(arch, out_norm=False)
        report = load_weights(backbone, state)
        assert set(report.loaded) == set(backbone.state_dict())
        assert not report.ignored
        # norms on the outputs, which the authors do not have, start anew
        report = load_weights(CrossFormer(arch), state)
        assert {key.split(".")[0] for key in report.missing} == {"out_norms"}
        classifier = Classifier(
            CrossFormer(arch, **CrossFormer.classifier_options), backbone.make_head(10)
        )
        report = load_weights(classifier, convert_official(official, "crossformer").state_dict)
        assert set(report.loaded) == set(classifier.state_dict())

    def test_other_families_are_told_apart(self, official):
        with pytest.raises(CheckpointError, match=r"not weights of cswin.* look like crossformer"):
            convert_official(official, "cswin")
