import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmeffvit.checkpoint import CheckpointError, convert_official, load_weights
from mmeffvit.layers.points import LocalStructure, PointMixer, TriPlaneMixer
from mmeffvit.layers.points import level as level_module
from mmeffvit.models.points import ConDaFormer, PointSegmentor, raw_point_rows
from mmeffvit.ops.points import RelativeWindows
from mmeffvit.registry import MODELS
from mmeffvit.testing import TOLERANCES, check_golden, relative_rms_error
from mmeffvit.testing.families import condaformer as family

from .tiny import CONDAFORMER as TINY
from .tiny import scene

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "condaformer.npz"


def segmentor(backbone, num_classes):
    return PointSegmentor(backbone, {"num_classes": num_classes})


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        tensors = {k: torch.from_numpy(file[k]) for k in file.files if k != "meta"}
        return json.loads(str(file["meta"])), tensors


@pytest.fixture(scope="module")
def official(golden):
    tensors = golden[1]
    return {k.removeprefix("state/"): v for k, v in tensors.items() if k.startswith("state/")}


@pytest.fixture
def tiny():
    return ConDaFormer(arch=TINY).eval()


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_authors_numbers(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    errors = check_golden(GOLDEN)
    assert {"out/stem/feat", "out/pool3/xyz", "out/block4.0/feat", "out/unpool3/feat"} < set(errors)
    assert {"out/logits", "out/logits_inverse", "op/block1.1.attn/out"} < set(errors)
    assert {name: e for name, e in errors.items() if not e <= TOLERANCES["condaformer"]} == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_on_a_gpu(golden):
    network = family.build(*golden)
    inputs = family.inputs(golden[1])
    with torch.no_grad():
        expected = network(inputs)
        voxels = {name: tensor.cuda() for name, tensor in inputs["voxels"].items()}
        actual = network.cuda()({"voxels": voxels})
    assert (actual.cpu() - expected).abs().max() < 1e-4


class TestSizes:
    @pytest.mark.parametrize(
        ("variant", "classes", "count"),
        [("s3dis", 13, 8_423_917), ("scannet", 20, 19_777_652), ("scannet200", 200, 19_611_368)],
    )
    def test_parameters_of_published_networks(self, variant, classes, count):
        with torch.device("meta"):
            network = segmentor(ConDaFormer(variant), classes)
        assert sum(p.numel() for p in network.parameters()) == count

    def test_parameters_of_modules(self):
        with torch.device("meta"):
            network = segmentor(ConDaFormer("s3dis"), 13)

        def count(*modules):
            return sum(p.numel() for module in modules for p in module.parameters())

        backbone = network.backbone
        assert count(backbone.stem) == 132_480
        assert [count(m) for m in backbone.pools] == [4_704, 18_624, 74_112]
        assert [count(m) for m in backbone.blocks] == [308_928, 3_401_856, 4_332_288, 0, 0, 0]
        assert [count(m) for m in backbone.unpools] == [112_128, 28_416, 7_296]
        assert count(backbone.out_proj, network.decode_head) == 3_085

    def test_another_published_default(self):
        arch = {
            **TINY,
            "stem_dims": 48,
            "embed_dims": (96, 192, 384, 384),
            "decoder_dims": (192, 96, 48, 48),
            "depths": (1,) * 4,
            "decoder_depths": (0,) * 4,
        }
        with torch.device("meta"):
            backbone = ConDaFormer(arch, in_channels=4, voxel_size=0.05)
        assert (backbone.in_channels, backbone.voxel_size, backbone.out_channels) == (4, 0.05, 48)
        assert backbone.stem.conv.weight.shape == (48, 3, 3, 3, 4)


class TestConverter:
    def test_every_weight_finds_its_place(self, golden, official):
        conversion = convert_official(official, "condaformer")
        network = segmentor(ConDaFormer(ConDaFormer.arch_from_official(golden[0]["config"])), 13)
        assert conversion.state_dict.keys() == network.state_dict().keys()
        assert conversion.ignored == {}
        assert conversion.variant is None

    def test_kernels_of_size_one_are_the_memory_seen_the_other_way(self, official):
        state = convert_official(official, "condaformer").state_dict
        weight = official["block2.0.attn.conv_1_post.0.weight"]  # (48, 1, 1, 1, 96)
        ours = state["backbone.blocks.1.0.mixer.local_post.point.weight"]
        x = torch.randn(5, 96)
        torch.testing.assert_close(x @ ours.T, x @ weight.reshape(96, 48))
        assert not torch.allclose(ours, weight[:, 0, 0, 0])

    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_released_files_have_older_names(self, official, prefix):
        old = {}
        for key, value in official.items():
            for letter, word in (("q", "query"), ("k", "key"), ("v", "value")):
                key = key.replace(f"attn.{letter}_table", f"attn.relative_pos_{word}_table")
            old[prefix + key] = value
        assert old.keys().isdisjoint({f"{prefix}block1.0.attn.q_table"})
        expected = convert_official(official, "condaformer").state_dict
        conversion = convert_official({"state_dict": old, "epoch": 3}, "condaformer")
        assert conversion.container == "state_dict"
        assert conversion.state_dict.keys() == expected.keys()
        assert all(torch.equal(conversion.state_dict[k], v) for k, v in expected.items())

    def test_published_variant_is_recognised(self):
        with torch.device("meta"):
            state = {f"backbone.{k}": v for k, v in ConDaFormer("scannet200").state_dict().items()}
        assert ConDaFormer.variant_of_weights(state) == "scannet200"

    def test_backbone_alone_leaves_the_classifier_out(self, golden, official):
        backbone = ConDaFormer(ConDaFormer.arch_from_official(golden[0]["config"]))
        report = load_weights(backbone, convert_official(official, "condaformer").state_dict)
        assert set(report.ignored) == {f"decode_head.conv_seg.{n}" for n in ("weight", "bias")}
        assert len(report.loaded) == len(backbone.state_dict())

    def test_other_weights_are_refused(self, official):
        with pytest.raises(CheckpointError, match="look like condaformer"):
            convert_official(official, "secvit")
        state = convert_official(official, "condaformer").state_dict
        with pytest.raises(CheckpointError, match="does not fit"):
            load_weights(ConDaFormer(TINY), state)


def official_name(key):
    """The inverse of the key map, written by hand so that it checks it."""
    parts = key.split(".")
    if parts[0] == "decode_head":
        return f"final.3.{parts[2]}"
    kind, *rest = parts[1:]
    if kind == "stem":
        places = {"conv": "0", "norm": "1"}
        return f"stem.{places.get(rest[0], '3.' + rest[0].replace('norm', 'bn'))}.{rest[1]}"
    if kind == "out_proj":
        return f"final.{'0' if rest[0] == 'linear' else '1'}.{rest[1]}"
    number = int(rest[0]) + 1
    if kind == "pools":
        return f"pool{number}.{rest[1]}.{rest[2]}"
    if kind == "unpools":
        group = "proj_skip" if rest[1].startswith("skip") else "proj"
        return f"unpool{number}.{group}.{'0' if 'norm' in rest[1] else '1'}.{rest[2]}"
    tail = ".".join(rest[2:]).replace("mixer.", "attn.")
    for own, suffix in (("local_pre", ""), ("local_post", "_post")):
        tail = tail.replace(f"{own}.point_norm", f"conv_1{suffix}.1")
        tail = tail.replace(f"{own}.point", f"conv_1{suffix}.0")
        tail = tail.replace(f"{own}.depthwise_norm", f"conv_3{suffix}.1")
        tail = tail.replace(f"{own}.depthwise", f"conv_3{suffix}.0")
        tail = tail.replace(f"{own}.linear_norm", f"conv_3{suffix}.4")
        tail = tail.replace(f"{own}.linear", f"conv_3{suffix}.3")
    return f"block{number}.{rest[1]}.{tail}"


def test_published_file_by_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "tools"))
    from convert_checkpoint import main

    network = segmentor(ConDaFormer("s3dis"), 13)
    state = {}
    for key, value in network.state_dict().items():
        if key.endswith("point.weight"):
            value = value.t().reshape(len(value), 1, 1, 1, -1)  # the same memory, (in, out)
        state[f"module.{official_name(key)}"] = value
    torch.save({"state_dict": state, "epoch": 100}, tmp_path / "model_best.pth")
    target = tmp_path / "condaformer-s3dis.safetensors"
    assert main(["condaformer", str(tmp_path / "model_best.pth"), str(target)]) == 0
    assert "into the segmentor of condaformer-s3dis" in capsys.readouterr().out
    init = {"type": "Pretrained", "checkpoint": str(target), "prefix": "backbone."}
    backbone = MODELS.build({"type": "mmeffvit.ConDaFormer", "init_cfg": init})
    backbone.init_weights()
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[key], value), key


class TestStructure:
    def test_windows_and_neighbours_are_made_once_per_level_and_shift(self, monkeypatch, tiny):
        made = {"windows": 0, "neighbours": 0}
        make_windows, make_neighbours = RelativeWindows.of, level_module.sparse_neighbours

        def count(name, function):
            def counted(*args, **kwargs):
                made[name] += 1
                return function(*args, **kwargs)

            return counted

        monkeypatch.setattr(RelativeWindows, "of", count("windows", make_windows))
        monkeypatch.setattr(level_module, "sparse_neighbours", count("neighbours", make_neighbours))
        tiny(*scene())
        # 5 blocks on two levels: levels 1 and 2 as they are, level 1 also shifted; three planes
        assert made == {"windows": 9, "neighbours": 3}

    def test_shift_by_odd_blocks_and_stochastic_depth(self):
        backbone = ConDaFormer({**TINY, "decoder_depths": (2, 3)}, drop_path_rate=0.4)
        blocks = [[b.mixer.shifted for b in blocks] for blocks in backbone.blocks]
        assert blocks == [[False, True], [False], [False, True], [False, True, False]]
        rates = [b.drop_path.drop_prob for blocks in backbone.blocks for b in blocks]
        assert rates == pytest.approx([0, 0.2, 0.4, 0, 0.1, 0.2, 0.3, 0.4])
        with torch.device("meta"):
            assert ConDaFormer("s3dis").drop_path_rate == 0.5

    def test_stochastic_depth_drops_points(self):
        torch.manual_seed(0)
        backbone = ConDaFormer({**TINY, "depths": (1, 1)}, drop_path_rate=0.5)
        block = backbone.blocks[1][0].train()
        dropped = block.drop_path(torch.ones(400, 3))
        assert dropped.unique().tolist() == [0, 2]
        assert (dropped == dropped[:, :1]).all()

    def test_initial_weights(self):
        backbone = ConDaFormer({**TINY, "depths": (1, 1)})
        mixer = backbone.blocks[0][0].mixer
        assert mixer.q_table.std().item() == pytest.approx(0.02, rel=0.1)
        for weight, fan in (
            (backbone.stem.conv1.weight, 16 * 27),
            (mixer.local_pre.depthwise.weight, 48 * 27),
            (mixer.local_pre.point.weight, 48),
        ):
            assert weight.abs().max().item() == pytest.approx(fan**-0.5, rel=0.02)

    def test_built_by_the_toolboxes_registry(self):
        from mmengine.registry import MODELS as ROOT

        backbone = ROOT.build({"type": "mmeffvit.ConDaFormer", "arch": TINY})
        assert isinstance(backbone, ConDaFormer)
        assert MODELS.get("TriPlaneMixer") is TriPlaneMixer

    def test_any_mixer_from_a_config(self):
        @MODELS.register_module(force=True)
        class MeanOfSample(PointMixer):
            def forward(self, x, level):
                return torch.stack([x[level.batch == b].mean(0) for b in level.batch])

        plane = {"type": "mmeffvit.TriPlaneMixer", "window_size": 2}
        backbone = ConDaFormer(TINY, mixer=[plane, {"type": "mmeffvit.MeanOfSample"}, plane, plane])
        assert isinstance(backbone.blocks[1][0].mixer, MeanOfSample)
        assert backbone.blocks[0][1].mixer.window_size == 2
        assert backbone.eval()(*scene()).isfinite().all()
        with pytest.raises(ValueError, match=r"one for each of 4 lists of blocks .* got 2"):
            ConDaFormer(TINY, mixer=[plane, plane])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"depths": (1,)}, r"arch\['depths'\] needs 2 entries"),
            ({"embed_dims": (48, 64)}, "64; heads have 16 channels and come in threes"),
        ],
    )
    def test_arch_that_does_not_fit(self, change, message):
        with pytest.raises(ValueError, match=message):
            ConDaFormer({**TINY, **change})

    def test_mixer_that_does_not_fit(self):
        with pytest.raises(ValueError, match="num_heads must be a multiple of 3"):
            TriPlaneMixer(64, 4)
        with pytest.raises(ValueError, match=r"divide window_size, got 0\.3 and 4"):
            TriPlaneMixer(48, 3, window_size=4, quant_size=0.3)
        with pytest.raises(ValueError, match="did you mean 'scannet'"):
            ConDaFormer("scannets")
        with pytest.raises(ValueError, match="frozen_stages=3 is not possible"):
            ConDaFormer(TINY, frozen_stages=3)


class TestTraining:
    def test_every_parameter_gets_a_gradient(self):
        network = segmentor(ConDaFormer(TINY), 5).train()
        voxels, coors = scene()
        network({"voxels": {"voxels": voxels, "coors": coors}}).square().mean().backward()
        assert [n for n, p in network.named_parameters() if p.grad is None] == []
        assert all(p.grad.isfinite().all() for p in network.parameters())

    def test_fused_and_reference_agree_as_networks(self):
        voxels, coors = scene((57, 33))
        results = []
        for implementation in ("reference", "fused"):
            torch.manual_seed(0)
            network = ConDaFormer(TINY, implementation=implementation).double().train()
            for blocks in network.blocks:
                for block in blocks:
                    for name in ("q_table", "k_table", "v_table"):
                        nn.init.normal_(getattr(block.mixer, name), std=0.5)
            out = network(voxels, coors)
            weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
            grads = torch.autograd.grad((out * weight).sum(), list(network.parameters()))
            results.append((out, *grads))
        for actual, expected in zip(*results):
            torch.testing.assert_close(actual, expected, atol=1e-7, rtol=1e-6)

    def test_recomputing_changes_nothing(self):
        results = []
        for with_cp in (False, True):
            torch.manual_seed(0)
            network = ConDaFormer(TINY, with_cp=with_cp).train()
            out = network(*scene())
            results.append((out, *torch.autograd.grad(out.sum(), list(network.parameters()))))
        for actual, expected in zip(*results):
            torch.testing.assert_close(actual, expected)

    def test_frozen_stages_and_norms(self):
        network = ConDaFormer(TINY, frozen_stages=1, norm_eval=True).train()
        frozen = {n.split(".")[0] for n, p in network.named_parameters() if not p.requires_grad}
        assert frozen == {"stem", "pools", "blocks"}
        assert not any(p.requires_grad for p in network.blocks[0].parameters())
        assert all(p.requires_grad for p in network.blocks[1].parameters())
        assert not any(m.training for m in network.modules() if isinstance(m, nn.BatchNorm1d))

    def test_autocast(self):
        network = ConDaFormer(TINY).train()
        voxels, coors = scene()
        expected = copy.deepcopy(network)(voxels, coors)
        with torch.autocast("cpu", torch.bfloat16):
            out = network(voxels, coors)
        out.float().square().mean().backward()
        assert relative_rms_error(out.float(), expected) < 0.1
        assert all(p.grad.isfinite().all() for p in network.parameters())


class TestInput:
    def test_order_of_points_does_not_matter(self, tiny):
        voxels, coors = scene()
        shuffled = torch.cat((torch.randperm(90), 90 + torch.randperm(41)))
        out = tiny(voxels, coors)
        torch.testing.assert_close(
            tiny(voxels[shuffled], coors[shuffled]), out[shuffled], rtol=1e-4, atol=1e-5
        )

    def test_windows_of_the_batch_or_of_the_sample(self):
        both, alone = scene(), tuple(t[:90] for t in scene())
        for per_sample in (False, True):
            torch.manual_seed(0)
            network = ConDaFormer(TINY, per_sample_windows=per_sample).eval()
            for blocks in network.blocks:
                for block in blocks:
                    nn.init.normal_(block.mixer.q_table)
            same = torch.allclose(network(*both)[:90], network(*alone), rtol=1e-4, atol=1e-5)
            # as published, windows start at the lowest corner of all samples
            assert same == per_sample

    def test_input_is_left_as_it_was(self, tiny):
        voxels, coors = scene()
        before = voxels.clone(), coors.clone()
        tiny(voxels, coors)
        assert torch.equal(voxels, before[0])
        assert torch.equal(coors, before[1])

    @pytest.mark.parametrize("far", [0.0, 1e6])
    def test_far_from_the_origin(self, far):
        voxels, coors = scene()
        level = ConDaFormer(TINY).finest_level(voxels.double(), coors)
        moved = voxels.double() + torch.tensor([far, -far, far, 0, 0, 0])
        away = ConDaFormer(TINY).finest_level(moved, coors + torch.tensor([0, 7, -3, 10**7]))
        torch.testing.assert_close(away.xyz, level.xyz, atol=1e-5, rtol=0)
        assert torch.equal(away.cells, level.cells)
        assert ((level.xyz - level.cells[:, 1:]) >= 0).all()

    def test_far_from_the_origin_in_float32_is_refused(self, tiny):
        voxels, coors = scene()
        with pytest.raises(ValueError, match="near enough for float32"):
            tiny(voxels + 1e6, coors)

    @pytest.mark.parametrize("count", [1, 2])
    def test_one_and_two_points(self, tiny, count):
        voxels, coors = scene((count,))
        out = tiny(voxels, coors)
        assert out.shape == (count, 48)
        assert out.isfinite().all()

    def test_one_point_while_training_is_refused_by_batch_norm(self):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            ConDaFormer(TINY).train()(*scene((1,)))

    def test_integer_types_and_layouts(self, tiny):
        voxels, coors = scene()
        expected = tiny(voxels, coors)
        assert torch.equal(tiny(voxels, coors.int()), expected)
        assert torch.equal(tiny(voxels.t().contiguous().t(), coors), expected)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda v, c: (v[:, :5], c), r"shape \(N, 6\), with x, y, z first, got \(131, 5\)"),
            (lambda v, c: (v, c[:, 1:]), r"\(batch, x, y, z\) per voxel, \(131, 4\)"),
            (lambda v, c: (v, c.float()), "integers"),
            (lambda v, c: (v[:0], c[:0]), "got no points"),
            (lambda v, c: (v.index_fill(0, torch.tensor([5]), torch.nan), c), "NaN .* row 5"),
            (lambda v, c: (v / 0, c), "NaN or infinite"),
            (lambda v, c: (v, c * torch.tensor([2, 1, 1, 1])), r"samples \[1\] have no points"),
            (lambda v, c: (v, c + torch.tensor([1, 0, 0, 0])), r"samples \[0\] have no points"),
            (lambda v, c: (v, c.flip(0)), "must lie together"),
            (lambda v, c: (v * 2, c), "voxel_size=0.1"),
            (lambda v, c: (v[[0, *range(131)]], c[[0, *range(131)]]), "more than once"),
            (lambda v, c: (v * 0, c * torch.tensor([1, 0, 0, 0])), "129 of 131 voxels .* once"),
        ],
    )
    def test_bad_input(self, tiny, change, message):
        with pytest.raises(ValueError, match=message):
            tiny(*change(*scene()))

    def test_rows_of_raw_points(self):
        offset, length = torch.tensor([3, 5]), torch.tensor([2, 3])
        inverse = torch.tensor([2, 0, 1, 1, 0])
        assert raw_point_rows(inverse, length, offset).tolist() == [2, 0, 4, 4, 3]
        with pytest.raises(ValueError, match="2 samples have 5 points together, but there are 4"):
            raw_point_rows(inverse[:4], length, offset)
        with pytest.raises(ValueError, match="voxels that its sample does not have"):
            raw_point_rows(inverse + 1, length, offset)
        with pytest.raises(ValueError, match="length has 2 samples and offset 1"):
            raw_point_rows(inverse, length, offset[:1])


def test_local_structure_halves():
    voxels, coors = scene()
    level = ConDaFormer(TINY).finest_level(voxels, coors)
    module = LocalStructure(48).eval()
    x = torch.randn(len(level), 48)
    out = module(x, level)
    torch.testing.assert_close(out[:, :24], module.point_norm(x @ module.point.weight.T))
    around = module.depthwise_norm(module.depthwise(x, level.neighbours))
    expected = module.linear_norm(module.linear(nn.functional.gelu(around)))
    torch.testing.assert_close(out[:, 24:], expected)
