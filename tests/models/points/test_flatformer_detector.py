import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.models.points import (
    SECOND,
    SECONDFPN,
    CenterHead,
    DynamicVFE,
    FlatFormer,
    PointDataSample,
    PointDetector,
    boxes_from_mmdet3d_v0,
)
from mmeffvit.models.points.heads.center_losses import gaussian_focal_loss
from mmeffvit.models.points.heads.center_targets import center_targets, gaussian_radius
from mmeffvit.ops.points import rotated_overlap
from mmeffvit.testing import TOLERANCES, check_golden
from mmeffvit.testing.families import flatformer as family

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "flatformer_det.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        tensors = {k: torch.from_numpy(file[k]) for k in file.files if k != "meta"}
        return json.loads(str(file["meta"])), tensors


def published():
    return PointDetector(DynamicVFE(), FlatFormer(), SECOND(), SECONDFPN(), CenterHead())


def head(**kwargs):
    """A head on a map of 10 x 8 cells of half a metre, from (-2, 1) on."""
    torch.manual_seed(0)
    kwargs = {
        "num_classes": 2,
        "share_channels": 4,
        "head_channels": 4,
        "voxel_size": (0.5, 0.5),
        "point_cloud_range": (-2.0, 1.0),
        "test_cfg": {"nms_thr": (0.2, 0.7), "nms_pre": (20, 20), "nms_post": (5, 1)},
        **kwargs,
    }
    return CenterHead(3, **kwargs)


def test_equals_the_authors_numbers(golden):
    errors = check_golden(GOLDEN)
    assert {"out/vfe_feats", "out/bev", "out/neck", "out/head/iou", "out/targets/ind"} < set(errors)
    assert {"out/losses/task0.loss_bbox", "out/decoded1/boxes"} < set(errors)
    assert {name: e for name, e in errors.items() if not e <= TOLERANCES["flatformer"]} == {}
    exact = [n for n in errors if not golden[1][n].is_floating_point()]
    assert {"mid/point_coords", "out/vfe_coords", "out/targets/mask"} < set(exact)
    assert [n for n in exact if errors[n]] == []


def test_no_pillar_is_dropped_as_on_the_authors_gpu(golden):
    tensors = golden[1]
    ours = {tuple(row) for row in tensors["out/vfe_coords"].tolist()}
    theirs = {tuple(row) for row in tensors["official_gpu/vfe_coords"].tolist()}
    assert theirs < ours
    assert ours - theirs == {min(r for r in ours if r[0] == b) for b in (0, 1)}


def test_parameters_of_the_published_network():
    with torch.device("meta"):
        network = published()
    counts = [sum(p.numel() for p in part.parameters()) for part in network.children()]
    assert counts.pop(0) == 0  # the preprocessor
    assert counts == [17_472, 1_059_840, 701_952, 74_240, 414_606]
    assert sum(counts) == 2_268_110


def test_converter_finds_every_part(golden):
    meta, tensors = golden
    official = {k.removeprefix("state/"): v for k, v in tensors.items() if k.startswith("state/")}
    network = family.build_detector(meta)
    conversion = convert_official({"meta": {}, "state_dict": official}, "flatformer")
    assert conversion.state_dict.keys() == network.state_dict().keys()
    assert conversion.ignored == {}
    load_weights(network, conversion.state_dict)
    weight = official["bbox_head.task_heads.0.heatmap.1.weight"]
    assert torch.equal(network.bbox_head.branches["heatmap"][1].weight, weight)
    # the middle encoder alone takes its part
    load_weights(network.middle_encoder, conversion.state_dict, "middle_encoder.")


def test_published_file_by_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "tools"))
    from convert_checkpoint import main

    state, network = {}, FlatFormer()
    for key, value in network.state_dict().items():
        block, layer, rest = key.removeprefix("blocks.").split(".", 2)
        rest = rest.replace("attn.qkv.", "attn.attn.in_proj_")
        rest = rest.replace("attn.proj", "attn.attn.out_proj")
        state[f"middle_encoder.block_list.{block}.block.{layer}.{rest}"] = value
    torch.save({"state_dict": state}, tmp_path / "epoch_24.pth")
    target = tmp_path / "flatformer.safetensors"
    assert main(["flatformer", str(tmp_path / "epoch_24.pth"), str(target)]) == 0
    printed = capsys.readouterr().out
    assert "flatformer-waymo" in printed
    assert "prefix='middle_encoder.'" in printed
    init = {"type": "Pretrained", "checkpoint": str(target), "prefix": "middle_encoder."}
    loaded = FlatFormer(init_cfg=init)
    loaded.init_weights()
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in network.state_dict().items())


class TestMaps:
    def test_residuals_are_added_after_the_relu_where_shapes_agree(self):
        backbone = SECOND(4, (4, 6), (1, 1), (1, 2)).eval()
        x = torch.randn(2, 4, 6, 8)
        (first, second), (third, fourth) = backbone.blocks
        a = first(x) + x
        a = second(a) + a
        b = third(a)
        b = fourth(b) + b
        for actual, expected in zip(backbone(x), (a, b)):
            torch.testing.assert_close(actual, expected)
        plain = SECOND(4, (4,), (1,), (1,), residual=False).eval()
        assert (plain(x)[0] >= 0).all()

    def test_pyramid_needs_maps_that_fit(self):
        neck = SECONDFPN((4, 6), (3, 5), (1, 2)).eval()
        assert neck.out_channels == 8
        assert neck((torch.zeros(1, 4, 6, 8), torch.zeros(1, 6, 3, 4)))[0].shape == (1, 8, 6, 8)
        with pytest.raises(ValueError, match=r"sizes \(5, 8\), \(6, 8\) .* multiples"):
            neck((torch.zeros(1, 4, 5, 8), torch.zeros(1, 6, 3, 4)))
        with pytest.raises(ValueError, match="takes 2 maps, got 1"):
            neck((torch.zeros(1, 4, 5, 8),))

    def test_arguments(self):
        with pytest.raises(ValueError, match=r"one entry per stage .* layer_nums=\(3,\)"):
            SECOND(layer_nums=(3,))
        with pytest.raises(ValueError, match=r"one entry per map .* upsample_strides=\(1,\)"):
            SECONDFPN(upsample_strides=(1,))
        with pytest.raises(ValueError, match=r"without the branches \['height', 'rot'\]"):
            head(branches={"reg": 2, "dim": 3})
        with pytest.raises(ValueError, match=r"one entry for each of 2 classes, got \(0.5,\)"):
            head(test_cfg={"nms_thr": (0.5,)})
        with pytest.raises(ValueError, match=r"train_cfg has \['radius'\]; known are min_overlap"):
            head(train_cfg={"radius": 2})
        with pytest.raises(ValueError, match="one map of a neck, got 2"):
            head()((torch.zeros(1, 3, 8, 10),) * 2)

    def test_initial_weights(self):
        network = head(share_channels=64, head_channels=64)
        assert (network.branches["heatmap"][1].bias == -2.19).all()
        assert not network.branches["reg"][1].bias.any()
        std = network.branches["dim"][0].conv.weight.std().item()
        assert std == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


BOX = [0.1, 2.2, -1.0, 2.0, 1.0, 1.5, 0.4]  # cell (4, 2)


class TestTargets:
    @staticmethod
    def targets(boxes, labels, **kwargs):
        boxes = [torch.tensor(b) if b else torch.zeros(0, 7) for b in boxes]
        labels = [torch.tensor(n) for n in labels]
        kwargs = {"max_objs": 4, **kwargs}
        return center_targets(boxes, labels, 2, (10, 8), (0.5, 0.5), (-2.0, 1.0), **kwargs)

    def test_one_object(self):
        targets = self.targets([[BOX]], [[1]])
        assert targets.mask.tolist() == [[True, False, False, False]]
        assert targets.ind[0, 0].item() == 2 * 10 + 4
        expected = [0.2, 0.4, -0.25, *map(math.log, (2.0, 1.0, 1.5)), math.sin(0.4), math.cos(0.4)]
        torch.testing.assert_close(
            targets.anno_box[0, 0], torch.tensor([*expected, 0, 0]), rtol=1e-5, atol=1e-5
        )
        assert targets.boxes[0, 0, 2].item() == pytest.approx(-0.25)
        assert not targets.anno_box[0, 1:].any()

    def test_heat_is_the_largest_of_the_gaussians(self):
        near = [0.9, *BOX[1:3], 6.0, 5.0, *BOX[5:]]  # a larger one, cell (5, 2)
        targets = self.targets([[BOX, near, BOX], [near]], [[0, 0, 1], [1]])
        expected = torch.zeros(2, 2, 8, 10)
        for sample, label, box in ((0, 0, BOX), (0, 0, near), (0, 1, BOX), (1, 1, near)):
            sides = torch.tensor(box[4]) / 0.5, torch.tensor(box[3]) / 0.5
            r = max(1, int(gaussian_radius(*sides, 0.1)))
            sigma = (2 * r + 1) / 6
            cx, cy = math.floor((box[0] + 2) / 0.5), math.floor((box[1] - 1) / 0.5)
            for y in range(max(0, cy - r), min(8, cy + r + 1)):
                for x in range(max(0, cx - r), min(10, cx + r + 1)):
                    heat = math.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
                    before = expected[sample, label, y, x].item()
                    expected[sample, label, y, x] = max(before, heat)
        torch.testing.assert_close(targets.heatmap, expected, rtol=1e-5, atol=1e-6)
        assert int((targets.heatmap == 1).sum()) == 4

    def test_radius_by_hand(self):
        h, w, o = 6.0, 4.0, 0.1
        expected = min(
            (h + w + math.sqrt((h + w) ** 2 - 4 * h * w * (1 - o) / (1 + o))) / 2,
            (2 * (h + w) + math.sqrt(4 * (h + w) ** 2 - 16 * (1 - o) * h * w)) / 2,
            (-2 * o * (h + w) + math.sqrt(4 * o**2 * (h + w) ** 2 + 16 * o * (1 - o) * h * w)) / 2,
        )
        actual = gaussian_radius(torch.tensor(h), torch.tensor(w), o)
        assert actual.item() == pytest.approx(expected)

    def test_slots(self):
        def at(x, y=2.2, dx=2.0):
            return [x, y, 0.0, dx, 1.0, 1.0, 0.0, 7.0, 8.0]

        boxes = [at(0.1), at(-9.0), at(1.1), at(2.1, dx=0.0), at(0.6)], []
        targets = self.targets(boxes, [[1, 0, 0, 1, 5], []])
        # class after class; skipped objects keep their slots, unknown classes have none
        assert targets.mask.tolist() == [[False, True, True, False], [False] * 4]
        assert targets.ind.tolist() == [[0, 26, 24, 0], [0] * 4]
        assert targets.anno_box[0, 1, 8:].tolist() == [7, 8]
        few = self.targets(boxes, [[1, 0, 0, 1, 5], []], max_objs=2)
        assert few.mask.tolist() == [[False, True], [False, False]]
        assert int((few.heatmap == 1).sum()) == 1

    def test_borders(self):
        just_outside = [-2.01, *BOX[1:]], [3.0, *BOX[1:]], [*BOX[:1], 5.0, *BOX[2:]]
        assert not self.targets([list(just_outside)], [[0, 0, 0]]).mask.any()
        corners = [-2.0, 1.0, *BOX[2:]], [2.99, 4.99, *BOX[2:]]
        assert self.targets([list(corners)], [[0, 0]]).ind[0, :2].tolist() == [0, 79]

    def test_bad_boxes(self):
        with pytest.raises(ValueError, match=r"boxes \(n, 7 or 9\) .* got \(1, 6\)"):
            self.targets([[BOX[:6]]], [[0]])
        with pytest.raises(ValueError, match="got 1 and 2"):
            self.targets([[BOX]], [[0], [0]])
        with pytest.raises(ValueError, match="sample 0 has boxes with NaN"):
            self.targets([[[math.nan, *BOX[1:]]]], [[0]])


class TestLosses:
    @staticmethod
    def outs(network, batch=2):
        return network((torch.randn(batch, 3, 8, 10),))

    def test_focal_loss_by_hand(self):
        logits, target = torch.tensor([0.5, -1.0, 30.0]), torch.tensor([1.0, 0.5, 0.0])
        p = [torch.sigmoid(torch.tensor(v)).item() for v in (0.5, -1.0)] + [1 - 1e-4]
        expected = -math.log(p[0]) * (1 - p[0]) ** 2
        expected -= math.log(1 - p[1]) * p[1] ** 2 * 0.5**4
        expected -= math.log(1 - p[2]) * p[2] ** 2
        assert gaussian_focal_loss(logits, target).item() == pytest.approx(expected, rel=1e-3)

    def test_perfect_boxes_cost_nothing(self):
        network = head()
        boxes, labels = [torch.tensor([BOX, [1.6, 4.1, *BOX[2:]]])], [torch.tensor([0, 1])]
        targets = network.targets(boxes, labels, (10, 8))
        outs = self.outs(network, 1)
        parts = targets.anno_box.split((2, 1, 3, 2, 2), dim=-1)
        for name, values in zip(("reg", "height", "dim", "rot", "vel"), parts):
            with torch.no_grad():
                outs[name].flatten(2).transpose(1, 2)[0, targets.ind[0, :2]] = values[0, :2]
        outs["iou"] = torch.ones_like(outs["iou"])
        losses = network.loss(outs, boxes, labels)
        assert losses["loss_bbox"].item() == pytest.approx(0, abs=1e-5)
        assert losses["loss_iou"].item() == pytest.approx(0, abs=1e-4)
        # a metre of height more: one of eight numbers of one of two boxes, twice
        with torch.no_grad():
            outs["height"].flatten()[targets.ind[0, 0]] += 1.0
        losses = network.loss(outs, boxes, labels)
        assert losses["loss_bbox"].item() == pytest.approx(2 * 1.0 / 2, rel=1e-3)
        assert losses["loss_iou"].item() == pytest.approx((1 - 0.5 / 2.5) / 2, rel=1e-3)

    def test_velocities_give_no_signal_and_iou_trains_its_branch_only(self):
        network = head()
        boxes, labels = (
            [torch.tensor([BOX]), torch.zeros(0, 7)],
            [torch.tensor([1]), torch.zeros(0)],
        )
        losses = network.loss(self.outs(network), boxes, labels)
        losses["loss_bbox"].backward(retain_graph=True)
        assert not network.branches["vel"][1].weight.grad.any()
        assert network.branches["dim"][1].weight.grad.any()
        network.zero_grad()
        losses["loss_iou"].backward()
        touched = [n for n, b in network.branches.items() if b[1].weight.grad is not None]
        assert touched == ["iou"]

    def test_no_object_at_all(self):
        network = head()
        losses = network.loss(self.outs(network, 1), [torch.zeros(0, 7)], [torch.zeros(0)])
        sum(losses.values()).backward()
        assert all(loss.isfinite() for loss in losses.values())
        assert losses["loss_bbox"] == losses["loss_iou"] == 0


class TestPrediction:
    @staticmethod
    def outs():
        """Two boxes of class 0 beside each other, and two of class 1 on top of them."""
        outs = {k: torch.zeros(1, n, 8, 10) for k, n in (("reg", 2), ("height", 1), ("dim", 3))}
        outs["rot"] = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 8, 10)
        outs["iou"] = torch.full((1, 1, 8, 10), 2.0)
        outs["heatmap"] = torch.full((1, 2, 8, 10), -9.0)
        for label, x, logit in ((0, 4, 3.0), (0, 5, 2.0), (1, 4, 1.0), (1, 5, 2.5)):
            outs["heatmap"][0, label, 3, x] = logit
        outs["height"] += 5.0
        return outs

    def test_suppression_is_by_class(self):
        network = head()
        ((boxes, scores, labels),) = network.decode(self.outs())
        assert labels.tolist() == [0, 1, 0, 1]
        torch.testing.assert_close(scores, torch.tensor([3.0, 2.5, 2.0, 1.0]).sigmoid())
        assert boxes[0].tolist() == [0, 2.5, 5, 1, 1, 1, 0]
        ((boxes, scores, labels),) = network.predict(self.outs())
        # overlap 1/3: above the threshold of class 0, below that of class 1, of which one may stay
        assert labels.tolist() == [0, 1]
        torch.testing.assert_close(scores, torch.tensor([3.0, 2.5]).sigmoid())
        assert boxes[:, 2].tolist() == [4.5, 4.5]  # the bottom

    def test_limits_and_thresholds(self):
        settings = {"nms_thr": (0.9, 0.9), "nms_pre": (9, 9), "nms_post": (9, 9)}
        network = head(test_cfg={**settings, "post_center_range": (0.4, 0, 0, 9, 9, 9)})
        assert network.predict(self.outs())[0][2].tolist() == [0, 1]
        network = head(test_cfg={**settings, "score_thr": torch.tensor(2.0).sigmoid().item()})
        # strictly above
        assert network.predict(self.outs())[0][2].tolist() == [0, 1]
        assert len(head(test_cfg={**settings, "max_num": 3}).decode(self.outs())[0][0]) == 3
        nothing = head(test_cfg={**settings, "score_thr": 1.0}).predict(self.outs())
        assert [t.shape for t in nothing[0]] == [(0, 7), (0,), (0,)]

    def test_predicted_overlap_weighs_scores(self):
        outs = self.outs()
        outs["iou"] = torch.full_like(outs["iou"], 0.8)
        scores = head().decode(outs)[0][1]
        torch.testing.assert_close(scores[0], torch.tensor(3.0).sigmoid() * 0.64)
        outs.pop("iou")
        network = head(branches={"reg": 2, "height": 1, "dim": 3, "rot": 2})
        torch.testing.assert_close(network.decode(outs)[0][1][0], torch.tensor(3.0).sigmoid())

    def test_boxes_of_older_versions(self):
        old = torch.tensor([[1.0, 2.0, 0.0, 2.0, 5.0, 1.5, 0.3]])  # w, l, h
        new = boxes_from_mmdet3d_v0(old)
        # the same rectangle: w along x and l along y, turned clockwise
        rectangle = torch.tensor([[1.0, 2.0, 2.0, 5.0, -0.3]])
        assert rotated_overlap(new[:, [0, 1, 3, 4, 6]], rectangle).item() == pytest.approx(10.0)
        # ahead is -y, then towards -x
        assert new[0, 3].item() == 5.0
        assert new[0, 6].item() == pytest.approx(-math.pi / 2 - 0.3)


def test_the_whole_trains(golden):
    meta, tensors = golden
    torch.manual_seed(0)
    network = family.build_detector(meta).train()
    counts = tensors["in/points_per_sample"].long()
    batch = torch.repeat_interleave(torch.arange(2), counts)
    # the second sample has fewer pillars than a group
    keep = (batch == 0) | (torch.arange(len(batch)) > len(batch) - 12)
    coors = tensors["mid/point_coords"].long()[keep]
    points = tensors["in/points"][keep]
    inputs = {"points": [None, None], "voxels": {"voxels": points, "coors": coors}}
    samples = []
    for i in range(2):
        boxes, labels = tensors[f"in/gt_boxes{i}"], tensors[f"in/gt_labels{i}"]
        instances = InstanceData(bboxes_3d=boxes, labels_3d=labels)
        samples.append(PointDataSample(gt_instances_3d=instances))
    losses = []
    for step in range(3):
        parts = network(inputs, samples, mode="loss")
        loss = sum(parts.values())
        network.zero_grad()
        loss.backward()
        if step == 0:
            assert [n for n, p in network.named_parameters() if p.grad is None] == []
        with torch.no_grad():
            # torch.optim would import half of torch.compile
            for parameter in network.parameters():
                parameter -= 1e-3 * parameter.grad.sign()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_built_by_the_toolboxes_registry():
    from mmengine.registry import MODELS as ROOT

    for name in ("DynamicVFE", "SECOND", "SECONDFPN", "CenterHead"):
        with torch.device("meta"):
            assert type(ROOT.build({"type": f"mmeffvit.{name}"})).__name__ == name
