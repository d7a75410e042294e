from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmeffvit import create_backbone
from mmeffvit.checkpoint import CheckpointError, convert_official, load_weights
from mmeffvit.layers import LayerNorm2d, MapContext
from mmeffvit.models import NAT, DiNAT, DiNAT_s
from mmeffvit.models.backbones.dinat_s import PhaseMerge
from mmeffvit.models.classifier import create_classifier
from mmeffvit.models.meta import RememberedShapes
from mmeffvit.models.zoo import backbone_classes, split_name

from .checks import (
    check_golden_file,
    check_implementations_agree,
    count_parameters,
    drop_path_rates,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "dinat.npz"

# the authors' classifiers; the counts of the kernel of 11 are ours: (21^2 - 13^2) more entries of
# the biases of each of 738 heads
PARAMETERS = {
    "nat-mini": 19_984_174,
    "nat-tiny": 27_901_582,
    "nat-small": 50_743_297,
    "nat-base": 89_769_652,
    "dinat-mini": 19_984_174,
    "dinat-tiny": 27_901_582,
    "dinat-small": 50_719_681,
    "dinat-base": 89_769_652,
    "dinat-large": 200_943_514,
    "dinat-large-11x11": 200_943_514 + 738 * (21**2 - 13**2),
    "dinat-s-tiny": 28_288_354,
    "dinat-s-small": 49_606_258,
    "dinat-s-base": 87_768_224,
    "dinat-s-large": 196_532_476,
}
# multiply-accumulates at 224 x 224, 10^9
MACS = {
    "nat-mini": 2.695,
    "dinat-mini": 2.695,
    "dinat-small": 7.772,
    "dinat-s-tiny": 4.491,
}
SMALL = {
    "embed_dims": (8, 16, 24, 32),
    "depths": (2, 1, 2, 1),
    "num_heads": (2, 2, 4, 4),
    "mlp_ratio": 2,
    "kernel_size": 3,
    "layer_scale": 1e-5,
}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_authors_numbers(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    expected = {f"{net}out/stage{i}" for net in ("", "dinats_") for i in (1, 2, 3, 4)}
    expected |= {f"op/na_{case}/out" for case in ("d1", "d3", "pad")}
    check_golden_file(GOLDEN, "dinat", expected)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    classifier, backbone, dense = count_parameters(name)
    family, variant = split_name(name)
    dims = backbone_classes()[family].arch_zoo[variant]["embed_dims"]
    assert classifier == PARAMETERS[name]
    assert backbone == classifier - 2 * dims[3] - 1000 * (dims[3] + 1)
    assert dense == backbone + 2 * sum(dims)


@pytest.mark.parametrize("name", MACS)
def test_cost(name):
    with torch.device("meta"):
        network, image = create_classifier(name).eval(), torch.empty(1, 3, 224, 224)
    with torch.no_grad(), RememberedShapes(), FlopCounterMode(display=False) as counter:
        network(image)
    assert round(counter.get_total_flops() / 2e9, 3) == MACS[name]


def dilations(network):
    return [[block.mixer.core.dilation for block in stage.blocks] for stage in network.stages]


CYCLE = [1, 3, 1, 5, 1, 7]
AT_640 = [1, 2, 1, 3, 1, 4, 1, 5, 1, 2, 1, 3, 1, 4, 1, 5, 1, 5]


class TestDilations:
    @pytest.mark.parametrize(
        ("name", "task", "expected"),
        [
            ("dinat-tiny", "classification", [[1, 8, 1], [1, 4, 1, 4], [1, 2] * 9, [1] * 5]),
            ("dinat-mini", "classification", [[1, 8, 1], [1, 4, 1, 4], [1, 2] * 3, [1] * 5]),
            ("dinat-large", "classification-384", [[1, 13, 1], [1, 6, 1, 6], [1, 3] * 9, [1] * 5]),
            ("dinat-mini", "detection", [[1, 28, 1], [1, 7, 1, 14], CYCLE, [1, 3, 1, 3, 1]]),
            ("dinat-base", "detection", [[1, 28, 1], [1, 7, 1, 14], CYCLE * 3, [1, 3, 1, 3, 1]]),
            (
                "dinat-small",
                "segmentation",
                [[1, 16, 1], [1, 4, 1, 8], [1, 2, 1, 3, 1, 4] * 3, [1, 2, 1, 2, 1]],
            ),
            (
                "dinat-large",
                "segmentation-640",
                [[1, 20, 1], [1, 5, 1, 10], AT_640, [1, 2, 1, 2, 1]],
            ),
            ("dinat-s-tiny", "classification", [[1, 8], [1, 4], [1, 2] * 3, [1, 1]]),
            ("dinat-s-tiny", "detection", [[1, 28], [1, 14], CYCLE, [1, 3]]),
            ("dinat-s-base", "segmentation", [[1, 16], [1, 8], [1, 2, 1, 3, 1, 4] * 3, [1, 2]]),
            ("dinat-s-large", "segmentation-640", [[1, 20], [1, 10], AT_640, [1, 2]]),
        ],
    )
    def test_of_the_authors(self, name, task, expected):
        with torch.device("meta"):
            assert dilations(create_backbone(name, dilations=task)) == expected

    def test_nat_has_none(self):
        with torch.device("meta"):
            assert dilations(create_backbone("nat-mini")) == [[1] * 3, [1] * 4, [1] * 6, [1] * 5]

    def test_given_block_by_block_or_for_all(self):
        given = [[1, 5], [2], [1, 3], [4]]
        assert dilations(DiNAT(SMALL, dilations=given)) == given
        assert dilations(DiNAT(SMALL, dilations=2)) == [[2, 2], [2], [2, 2], [2]]

    def test_impossible(self):
        with pytest.raises(ValueError, match=r"classification-384, detection.*not of 'pose'"):
            DiNAT(SMALL, dilations="pose")
        with pytest.raises(ValueError, match="DiNAT_s knows the dilations of classification, det"):
            DiNAT_s(SMALL, dilations="classification-384")
        for given in ([[1, 5], [2], [1, 3]], [[1], [2], [1, 3], [4]]):
            with pytest.raises(ValueError, match=r"each of the \(2, 1, 2, 1\) blocks"):
                DiNAT(SMALL, dilations=given)


@pytest.mark.parametrize("cls", [NAT, DiNAT, DiNAT_s])
def test_all_norms_have_the_authors_eps(cls):
    network = cls(SMALL)
    norms = [m for m in network.modules() if isinstance(m, LayerNorm2d)]
    assert len(norms) == 1 + 3 + 2 * 6 + 4
    assert {norm.eps for norm in norms} == {1e-5}
    assert network.make_head(10).norm.eps == 1e-5


def test_layer_scale_only_where_published():
    with torch.device("meta"):
        scaled = {
            name: any("layer_scale" in key for key in create_backbone(name).state_dict())
            for name in PARAMETERS
        }
    assert {name for name, has in scaled.items() if has} == {"nat-small", "nat-base", "dinat-base"}
    scales = [p for k, p in DiNAT(SMALL).named_parameters() if "layer_scale" in k]
    assert len(scales) == 12
    assert all(p.eq(1e-5).all() for p in scales)


def test_stochastic_depth_grows_to_the_last_block():
    rates = drop_path_rates(DiNAT(SMALL, drop_path_rate=0.5))
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    with torch.device("meta"):
        assert create_backbone("dinat-s-large").drop_path_rate == 0.35


def test_initial_weights():
    """Linear layers and biases are normal of std 0.02, convolutions uniform as PyTorch draws."""
    for name in ("dinat-mini", "dinat-s-tiny"):
        backbone = create_backbone(name, out_indices=(0, 1))
        for key, module in backbone.named_modules():
            if not isinstance(module, nn.Conv2d):
                continue
            if module.kernel_size == (1, 1):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.05), key
                assert module.bias is None or not module.bias.any(), key
            else:
                bound = module.weight[0].numel() ** -0.5
                assert 0.9 * bound < module.weight.abs().max() <= bound, key
        tables = torch.cat([p.flatten() for k, p in backbone.named_parameters() if "rpb" in k])
        assert tables.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("cls", [NAT, DiNAT, DiNAT_s])
def test_reference_and_fused_agree_as_networks(cls):
    check_implementations_agree(cls, SMALL, torch.randn(2, 3, 43, 58))


def test_stem_and_merges_are_affine():
    """Nothing between the two convolutions of the stem; one without a bias between stages."""
    network = NAT(SMALL)
    stem, merge = network.stem.proj, network.stages[1].downsample.reduction
    x = torch.randn(2, 1, 3, 37, 42)
    torch.testing.assert_close(stem(x[0]) + stem(x[1]) - stem(x[0] + x[1]), stem(0 * x[0]))
    assert merge.bias is None
    assert merge.stride == (2, 2)


class TestPaddingOfDiNATs:
    """The public numbers have even sides only."""

    @pytest.mark.parametrize("size", [(33, 47), (36, 50), (41, 40)])
    def test_of_the_image(self, size):
        """Zeros on the right and at the bottom, up to multiples of 4."""
        network = DiNAT_s(SMALL).eval()
        x = torch.randn(1, 3, *size)
        padded = F.pad(x, (0, -size[1] % 4, 0, -size[0] % 4))
        for actual, expected in zip(network(x), network(padded)):
            assert torch.equal(actual, expected)
        stem = network.stem.proj
        blocks = padded.unfold(2, 4, 4).unfold(3, 4, 4)
        expected = torch.einsum("bcyxij,ocij->boyx", blocks, stem.weight)
        expected = expected + stem.bias[:, None, None]
        torch.testing.assert_close(stem(padded), expected)

    @pytest.mark.parametrize("size", [(5, 7), (4, 3), (1, 6), (2, 2)])
    def test_of_odd_maps(self, size):
        """Pixel by pixel: (0, 0), (1, 0), (0, 1), (1, 1), zeros beyond the map."""
        merge = PhaseMerge(3, 5)
        nn.init.normal_(merge.norm.weight)
        x = torch.randn(2, 3, *size)
        out = merge(x)
        assert out.shape == (2, 5, -(-size[0] // 2), -(-size[1] // 2))
        beyond = torch.zeros(2, 3)
        for row in range(out.shape[2]):
            for column in range(out.shape[3]):
                pixels = [
                    x[:, :, 2 * row + i, 2 * column + j]
                    if 2 * row + i < size[0] and 2 * column + j < size[1]
                    else beyond
                    for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))
                ]
                normed = F.layer_norm(
                    torch.cat(pixels, 1), (12,), merge.norm.weight, merge.norm.bias, 1e-5
                )
                expected = F.linear(normed, merge.reduction.weight[:, :, 0, 0])
                torch.testing.assert_close(out[:, :, row, column], expected)


class TestOfficialCheckpoints:
    @pytest.fixture(scope="class")
    def arrays(self):
        with np.load(GOLDEN) as file:
            return {key: torch.from_numpy(file[key]) for key in file.files if "state/" in key}

    @pytest.fixture(scope="class")
    def official(self, arrays):
        return {k.removeprefix("state/"): v for k, v in arrays.items() if k.startswith("state/")}

    @pytest.fixture(scope="class")
    def state(self, official):
        return convert_official(official, "dinat").state_dict

    def small(self, **changes):
        arch = {
            "embed_dims": (8, 16, 32, 64),
            "depths": (2, 2, 3, 1),
            "num_heads": (2, 2, 4, 4),
            "mlp_ratio": 3,
            "kernel_size": 3,
            "layer_scale": 1e-5,
        }
        return DiNAT({**arch, **changes}, dilations=1)

    def test_every_weight_has_its_place(self, official, state):
        assert len(state) == len(official)
        ours = "backbone.stages.2.blocks.1."
        theirs = "levels.2.blocks.1."
        for i in (1, 2):
            expected = official[f"{theirs}gamma{i}"]
            assert torch.equal(state[f"{ours}layer_scale{i}.gamma"], expected)
        assert not torch.equal(official[f"{theirs}gamma1"], official[f"{theirs}gamma2"])
        weight = state[f"{ours}mixer.qkv.weight"]
        assert weight.shape == (96, 32, 1, 1)
        assert torch.equal(weight[:, :, 0, 0], official[f"{theirs}attn.qkv.weight"])
        assert torch.equal(state[f"{ours}mixer.core.rpb"], official[f"{theirs}attn.rpb"])
        reduction = state["backbone.stages.1.downsample.reduction.weight"]
        assert torch.equal(reduction, official["levels.0.downsample.reduction.weight"])
        assert torch.equal(state["head.norm.weight"], official["norm.weight"])

    def test_scale_of_each_branch(self, state):
        """The public numbers do not see the two swapped."""
        network = self.small().eval()
        load_weights(network, state)
        block = network.stages[0].blocks[0]
        x = torch.randn(1, 8, 5, 6)
        with torch.no_grad():
            block.layer_scale1.gamma.fill_(0)
            block.layer_scale2.gamma.fill_(2)
            expected = x + 2 * block.ffn(block.norm2(x))
        torch.testing.assert_close(block(x, MapContext.of(x)), expected)

    def test_loads_into_backbones_with_and_without_norms(self, state):
        for out_norm in (True, False):
            network = self.small()
            network = DiNAT(network.arch, out_norm=out_norm)
            report = load_weights(network, state)
            assert set(report.loaded) == set(network.state_dict())
            assert not report.missing

    def test_classifiers_have_no_norms_on_the_maps(self, state):
        classifier = {k: v for k, v in state.items() if "out_norms" not in k}
        report = load_weights(self.small(), classifier)
        assert {key.split(".")[0] for key in report.missing} == {"out_norms"}

    def test_another_kernel_has_its_biases_resized(self, state):
        network = self.small(kernel_size=5)
        report = load_weights(network, state)
        assert set(report.adapted) == {k for k in network.state_dict() if k.endswith("rpb")}
        key = "stages.2.blocks.0.mixer.core.rpb"
        table = state[f"backbone.{key}"]
        resized = F.interpolate(table[None], (9, 9), mode="bicubic")[0]
        assert torch.equal(network.state_dict()[key], resized)
        assert "(4, 5, 5) resized to (4, 9, 9)" in report.adapted[key]

    def test_other_heads_are_not_resized(self, state):
        with pytest.raises(CheckpointError, match=r"rpb is \(2, 5, 5\), not \(4, 9, 9\)"):
            load_weights(self.small(kernel_size=5, num_heads=(4, 2, 4, 4)), state)

    @pytest.mark.parametrize(
        "name", ["dinat-mini", "dinat-large", "dinat-large-11x11", "nat-small"]
    )
    def test_published_variant_is_recognised(self, name):
        with torch.device("meta"):
            network = create_classifier(name)
        variant = type(network.backbone).variant_of_weights(network.state_dict())
        assert variant == name.split("-", 1)[1]

    def test_keys_of_dinat_s(self, arrays):
        official = {
            k.removeprefix("dinats_state/"): v for k, v in arrays.items() if k.startswith("dinats_")
        }
        state = convert_official(official, "dinat-s").state_dict
        reduction = state["backbone.stages.2.downsample.reduction.weight"]
        assert reduction.shape == (32, 64, 1, 1)
        assert torch.equal(reduction[..., 0, 0], official["layers.1.downsample.reduction.weight"])
        with pytest.raises(CheckpointError, match=r"not weights of dinat.* look like dinat-s"):
            convert_official(official, "dinat")


@pytest.mark.parametrize("name", ["dinat-mini", "dinat-base", "nat-small"])
def test_names_of_the_hugging_face_library(name):
    """Files on the hub: the names and shapes that the library's class writes."""
    with torch.device("meta"):
        own = create_classifier(name)
    family = name.partition("-")[0]
    state = {}
    for key, value in own.state_dict().items():
        state |= _in_transformers(key, value, family)
    conversion = convert_official(state, family)
    assert conversion.variant == name.partition("-")[2]
    assert conversion.ignored == {}
    converted = conversion.state_dict
    assert converted.keys() == own.state_dict().keys()
    assert all(converted[key].shape == value.shape for key, value in own.state_dict().items())


def _in_transformers(key, value, family):
    """Written by hand from what `DinatForImageClassification` lists: it checks the rules."""
    parts = key.split(".")
    if parts[0] == "head":
        return {
            {"norm": f"{family}.layernorm", "fc": "classifier"}[parts[1]] + f".{parts[2]}": value
        }
    if parts[1] == "stem":
        place = {"proj": "patch_embeddings.projection", "norm": "norm"}[parts[2]]
        return {f"{family}.embeddings.{'.'.join((place, *parts[3:]))}": value}
    level = f"{family}.encoder.levels.{parts[2]}"
    if parts[3] == "downsample":
        level = f"{family}.encoder.levels.{int(parts[2]) - 1}"
        return {f"{level}.downsample.{parts[4]}.{parts[5]}": value}
    layer, (part, *rest) = f"{level}.layers.{parts[4]}", parts[5:]
    value = value.flatten(1) if value.dim() == 4 else value  # linear layers
    if part.startswith("layer_scale"):
        # both are rows of one tensor; that of the first is replaced by the second, of one shape
        return {f"{layer}.layer_scale_parameters": value.new_empty(2, len(value))}
    if part.startswith("norm"):
        place = {"norm1": "layernorm_before", "norm2": "layernorm_after"}[part]
    elif rest[0] == "core":
        return {f"{layer}.attention.self.rpb": value}
    elif rest[0] == "qkv":
        names = (f"{layer}.attention.self.{n}.{rest[1]}" for n in ("query", "key", "value"))
        return dict(zip(names, value.chunk(3)))
    else:
        place = {
            "proj": "attention.output.dense",
            "fc1": "intermediate.dense",
            "fc2": "output.dense",
        }[rest.pop(0)]
    return {f"{layer}.{place}.{rest[-1]}": value}


def test_rows_of_the_hugging_face_library_are_the_two_scales():
    state = {"nat.encoder.levels.0.layers.0.layer_scale_parameters": torch.tensor([[1.0], [2.0]])}
    converted = convert_official(state, "nat").state_dict
    block = "backbone.stages.0.blocks.0."
    assert converted == {f"{block}layer_scale1.gamma": 1.0, f"{block}layer_scale2.gamma": 2.0}
