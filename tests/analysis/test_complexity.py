"""Counts are checked against formulas written down here and against published figures."""

import json
import runpy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmeffvit.analysis.backbones import build_backbone, build_detector, parse_spec
from mmeffvit.analysis.complexity import count_complexity, count_detector, format_table
from mmeffvit.models.classifier import create_classifier
from mmeffvit.ops.dispatch import ENVIRONMENT_VARIABLE


class Toy(nn.Module):
    """One of everything that is counted, small enough to count by hand."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
        self.stages = nn.ModuleList([nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.Linear(8, 12)])
        self.norm = nn.LayerNorm(12)
        self.table = nn.Parameter(torch.zeros(5))

    def forward(self, x):
        x = self.stages[0](self.stem(x)).flatten(2).transpose(1, 2)
        x = self.norm(self.stages[1](x))
        q = x.unflatten(-1, (3, 4)).transpose(1, 2)
        return F.scaled_dot_product_attention(q, q, q)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_by_hand(device):
    tokens = 7 * 6  # 13 x 12 pixels at stride 2
    result = count_complexity(Toy(), (13, 12), batch_size=2, device=device)
    assert result.input_shape == (2, 3, 13, 12)
    assert result.params == {
        "stem": 8 * 3 * 9 + 8 + 16,
        "stages.0": 8 * 25 + 8,
        "stages.1": 8 * 12 + 12,
        "norm": 24,
        "(other)": 5,
    }
    assert result.macs == {
        "stem": {"conv": 2 * tokens * 8 * 3 * 9, "norm": 2 * 2 * tokens * 8},
        "stages.0": {"conv": 2 * tokens * 8 * 25},
        "stages.1": {"linear": 2 * tokens * 8 * 12},
        "norm": {"norm": 2 * 5 * tokens * 12},
        "(other)": {"attention": 2 * 2 * tokens * tokens * 12},
    }
    conv, linear = 2 * tokens * 8 * (27 + 25), 2 * tokens * 96
    attention = 4 * tokens**2 * 12
    assert result.macs_without_attention == conv + linear
    assert result.total_macs == conv + linear + attention
    assert result.attention_share == pytest.approx(attention / (conv + linear + attention))
    assert result.fvcore_total == result.total_macs + 2 * tokens * (16 + 60)


def test_the_model_is_not_changed():
    model = Toy().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    count_complexity(model, (16, 16))
    assert model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("broken", [False, True])
def test_a_model_without_memory_trains_on(broken):
    """It is run itself, and not a copy."""
    model = Toy().to("meta").train()
    model.stem.eval()
    if broken:
        model.norm = None
        with pytest.raises(TypeError):
            count_complexity(model, (16, 16))
    else:
        expected = count_complexity(Toy(), (16, 16))
        assert count_complexity(model, (16, 16)).to_dict() == expected.to_dict()
    assert {name for name, m in model.named_modules() if not m.training} == {
        *("stem", "stem.0", "stem.1")
    }


# parameters, convolutions and q k^T, p v of the published classifier at 224 x 224: the first as
# measured on the authors' code, the products from the shapes of the paper's variant T
SECVIT_TINY_PARAMS = 14_981_800
SECVIT_TINY_CONV = 2_494_068_736
SECVIT_TINY_ATTENTION = 211_441_664
SECVIT_TINY_SIMILARITY = 1_053_696  # of every key and the mean key, where clusters are made
# fvcore on the authors' code, which counts similarities and a pooling of 1024 x 7 x 7 as well
SECVIT_TINY_FVCORE = 2_720_914_432


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_secvit_tiny_as_published(monkeypatch, implementation):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, implementation)
    result = count_complexity(create_classifier("secvit-tiny"), (224, 224))
    assert result.total_params == SECVIT_TINY_PARAMS
    assert result.macs_of("conv", "linear") == SECVIT_TINY_CONV
    # an implementation may compute similarities by a product or by a sum
    similarity = result.macs_of("attention") - SECVIT_TINY_ATTENTION
    assert similarity in (0, SECVIT_TINY_SIMILARITY)
    uncounted = SECVIT_TINY_SIMILARITY - similarity + 1024 * 7 * 7
    assert result.fvcore_total == SECVIT_TINY_FVCORE - uncounted
    assert f"{result.fvcore_total / 2**30:.1f}" == "2.5"


@pytest.mark.parametrize(
    ("name", "params", "fvcore"),
    [
        ("secvit-small", 26_776_104, 4_756_303_872),
        ("secvit-base", 54_682_776, 10_412_017_152),
        ("secvit-large", 96_495_096, 19_384_702_720),
    ],
)
def test_secvit_variants_as_published(name, params, fvcore):
    with torch.device("meta"):
        model = create_classifier(name)
    result = count_complexity(model, (224, 224))
    assert result.total_params == params
    assert result.fvcore_total == pytest.approx(fvcore, rel=5e-4)


def test_cost_of_clusters_follows_the_area_only_when_asked():
    """GMACs of attention at 800 x 1344: 97.1 with 32, 8, 2 clusters, 6.7 with 98 tokens each."""
    fixed = count_complexity(build_backbone("secvit-tiny"), (800, 1344))
    linear = count_complexity(build_backbone("secvit-tiny:tokens_per_cluster=98"), (800, 1344))
    assert fixed.macs_of("attention") / 1e9 == pytest.approx(97.1, abs=0.1)
    assert linear.macs_of("attention") / 1e9 == pytest.approx(6.7, abs=0.1)
    assert fixed.macs_of("conv") == linear.macs_of("conv")


def test_stages_are_told_apart():
    result = count_complexity(build_backbone("secvit-tiny"), (224, 224))
    assert list(result.params) == [
        "stem",
        "stages.0",
        "stages.1",
        "stages.2",
        "stages.3",
        "out_norms",
    ]
    assert "(other)" not in result.macs
    # two blocks of 3136 tokens, 32 clusters of 98, 64 channels, and the similarities
    assert result.macs["stages.0"]["attention"] in (2 * 2 * 3136 * 98 * 64, 2 * 3136 * 64 * 197)


def test_detector_as_published():
    """Mask R-CNN R-50 is 44 M parameters and 260 G at 1280 x 800 in the papers (Swin, table 2)."""
    model = build_detector("mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py")
    result = count_detector(model, (800, 1280))
    assert result.total_params / 1e6 == pytest.approx(44.4, abs=0.05)
    assert result.macs_without_attention / 1e9 == pytest.approx(260, abs=1)
    roi_head = {key: value for key, value in result.macs.items() if key.startswith("roi_head")}
    # 1000 boxes through two linear layers and two predictors
    box_head = 1000 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 320))
    assert roi_head["roi_head.bbox_head"] == {"linear": box_head}
    assert list(roi_head) == ["roi_head.bbox_head", "roi_head.mask_head"]


@pytest.mark.parametrize("channels", [1, 5])
def test_input_has_the_channels_of_the_network(channels):
    network = build_backbone("secvit-tiny")
    rgb = count_complexity(network, (64, 64))
    counted = count_complexity(build_backbone(f"secvit-tiny:in_channels={channels}"), (64, 64))
    assert counted.input_shape == (1, channels, 64, 64)
    stem = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    per_channel = stem.weight[:, 0].numel() * 32 * 32  # at half the size
    assert counted.total_macs - rgb.total_macs == (channels - 3) * per_channel
    conv = nn.Sequential(nn.Conv2d(channels, 2, 1))
    assert count_complexity(conv, (4, 4)).total_macs == 32 * channels


def test_wrong_input():
    with pytest.raises(TypeError, match="has no backbone"):
        count_detector(Toy(), (64, 64))
    with pytest.raises(ValueError, match="at least 1"):
        count_complexity(Toy(), (0, 64))
    with pytest.raises(ValueError, match="did you mean 'secvit-tiny'"):
        build_backbone("secvit-tinny")
    with pytest.raises(ValueError, match=r"no registry has 'mmdet\.SwinTransformr'"):
        build_backbone("mmdet.SwinTransformr")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("secvit-tiny", ("secvit-tiny", {})),
        ("a:b=1,c=(0, 1),d='x'", ("a", {"b": 1, "c": (0, 1), "d": "x"})),
        (":tokens_per_cluster=98", ("", {"tokens_per_cluster": 98})),
    ],
)
def test_spec(spec, expected):
    assert parse_spec(spec) == expected


@pytest.mark.parametrize("spec", ["a:b", "a:b=c", "a:b=1;c=2", "a:**{}", "a:b=__import__('os')"])
def test_wrong_spec(spec):
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parse_spec(spec)


def test_table_says_input_and_counter():
    table = format_table(count_complexity(Toy(), (16, 16), name="toy"))
    assert "toy, input 1x3x16x16" in table
    assert "counter: torch.utils.flop_counter" in table


def test_tool_prints_json(capsys):
    tool = runpy.run_path("tools/analysis/complexity.py")
    tool["main"](["--backbone", "secvit-tiny", "--shape", "64", "96", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["input_shape"] == [1, 3, 64, 96]
    assert result["total_params"] == 13_431_360
    assert result["counter"]
