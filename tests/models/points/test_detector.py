"""The chain from points to boxes as one model, and what it does with bad input."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import pseudo_collate

from mmeffvit.checkpoint import write_checkpoint
from mmeffvit.models.points import PointDataSample
from mmeffvit.registry import MODELS

from .tiny import DETECTOR, RANGE, sweep


@pytest.fixture
def model():
    return MODELS.build(DETECTOR).eval()


def collate(*points):
    return {"inputs": {"points": list(points)}}


def maps(model, *points):
    with torch.no_grad():
        return model(**model.data_preprocessor(collate(*points)))


def assert_same(actual, expected):
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-4, atol=1e-5)


def test_modes_agree(model):
    data = model.data_preprocessor(pseudo_collate([sweep(seed=0), sweep(200, seed=1)]))
    with torch.no_grad():
        outs = model(**data)
        losses = model(**data, mode="loss")
        results = model(**data, mode="predict")
    assert outs["heatmap"].shape == (2, 2, 12, 20)
    assert set(losses) == {"loss_heatmap", "loss_bbox", "loss_iou"}
    gt = [sample.gt_instances_3d for sample in data["data_samples"]]
    expected = model.bbox_head.loss(outs, [g.bboxes_3d for g in gt], [g.labels_3d for g in gt])
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    for sample, (boxes, scores, labels) in zip(results, model.bbox_head.predict(outs)):
        found = sample.pred_instances_3d
        assert len(found) > 0
        assert torch.equal(found.bboxes_3d, boxes)
        assert torch.equal(found.scores_3d, scores)
        assert torch.equal(found.labels_3d, labels)
        assert sample.gt_instances_3d is not None


def test_boxes_of_mmdet3d(model):
    """Its boxes hold their numbers in `tensor`."""
    batch = pseudo_collate([sweep()])
    plain = model(**model.data_preprocessor(batch), mode="loss")
    instances = batch["data_samples"][0].gt_instances_3d
    boxes = instances.bboxes_3d
    del instances.bboxes_3d

    class Boxes(SimpleNamespace):
        def __len__(self):
            return len(self.tensor)

    instances.bboxes_3d = Boxes(tensor=boxes)
    wrapped = model(**model.data_preprocessor(batch), mode="loss")
    assert_same(wrapped, plain)


def test_trains_and_predicts_through_mmengine():
    torch.manual_seed(0)
    model = MODELS.build(DETECTOR).train()
    batch = pseudo_collate([sweep(seed=0), sweep(200, seed=1)])
    losses = []
    for step in range(4):
        data = model.data_preprocessor(copy.deepcopy(batch), training=True)
        loss, log = model.parse_losses(model(**data, mode="loss"))
        assert set(log) == {"loss", "loss_heatmap", "loss_bbox", "loss_iou"}
        model.zero_grad()
        loss.backward()
        if step == 0:
            assert [n for n, p in model.named_parameters() if p.grad is None] == []
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 1e-3 * parameter.grad.sign()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    results = model.eval().val_step(batch)
    assert [type(sample) for sample in results] == [PointDataSample] * 2
    assert results[0].pred_instances_3d.bboxes_3d.shape[1] == 9


def test_weights_of_a_whole_model(model, tmp_path):
    write_checkpoint(model.state_dict(), tmp_path / "detector.safetensors")
    init = {"type": "Pretrained", "checkpoint": str(tmp_path / "detector.safetensors")}
    loaded = MODELS.build({**DETECTOR, "init_cfg": init})
    loaded.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


class TestBadInput:
    """An error that says what is wrong, or the right answer."""

    def test_no_points(self, model):
        points = sweep()["inputs"]["points"]
        empty = points[:0]
        expected = maps(model, points)
        for batch, place in (((points, empty), 0), ((empty, points), 1)):
            outs = maps(model, *batch)
            assert_same({k: v[place : place + 1] for k, v in outs.items()}, expected)
        # nothing anywhere: a map without pillars
        nothing = maps(model, empty)
        assert_same(
            maps(model, empty, empty, points),
            {name: torch.cat((value, value, expected[name])) for name, value in nothing.items()},
        )
        assert all(value.isfinite().all() for value in nothing.values())
        with pytest.raises(ValueError, match="no samples"):
            maps(model)

    def test_one_point(self, model):
        points = sweep()["inputs"]["points"]
        outs = maps(model, points[:1], points)
        assert_same({k: v[:1] for k, v in outs.items()}, maps(model, points[:1]))
        assert all(value.isfinite().all() for value in outs.values())
        (sample,) = model.test_step(collate(points[:1]))
        assert sample.pred_instances_3d.bboxes_3d.isfinite().all()

    def test_all_points_in_one_pillar(self, model):
        points = torch.rand(64, 4) * 0.4 + 0.05
        data = model.data_preprocessor(collate(points))
        feats, coors = model.voxel_encoder(*data["inputs"]["voxels"].values())
        assert coors.tolist() == [[0, 0, 6, 10]]
        mean, centre = points[:, :3].mean(0), torch.tensor([0.25, 0.25, 1.0])
        x = torch.cat((points, points[:, :3] - mean, points[:, :3] - centre), dim=1)
        first, second = model.voxel_encoder.vfe_layers
        x = first(x)
        x = second(torch.cat((x, x.amax(0).expand_as(x)), dim=1))
        torch.testing.assert_close(feats, x.amax(0, keepdim=True))
        # a group of one token attends to itself alone, and lands in its place
        bev = model.middle_encoder(feats, coors, 1)
        assert bev.abs().sum(1).nonzero().tolist() == [[0, 6, 10]]

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
    @pytest.mark.parametrize("column", [0, 3])
    def test_not_finite(self, model, value, column):
        points = sweep()["inputs"]["points"]
        bad = points.clone()
        bad[5, column] = value
        with pytest.raises(ValueError, match=r"sample 1 .* NaN or infinite .* first is row 5"):
            maps(model, points, bad)

    def test_far_from_the_origin(self, model):
        """Outside of the range: left out, not wrapped or clamped into a pillar."""
        points = sweep()["inputs"]["points"]
        far = points + torch.tensor([1e6, 0, 0, 0])
        assert_same(maps(model, torch.cat((points, far, -far))), maps(model, points))
        assert_same(maps(model, far), maps(model, points[:0]))

    def test_range_far_from_the_origin(self):
        """A grid at 1e6 m, where float32 still tells its pillars apart."""
        shift = 2.0**20
        cfg = copy.deepcopy(DETECTOR)
        moved = (RANGE[0] + shift, *RANGE[1:3], RANGE[3] + shift, *RANGE[4:])
        cfg["data_preprocessor"]["voxel_layer"]["point_cloud_range"] = moved
        cfg["voxel_encoder"]["point_cloud_range"] = moved
        model = MODELS.build(cfg).eval()
        x = torch.arange(20) * 0.5 - 4.75
        points = torch.zeros(20, 4)
        points[:, 0] = x + shift
        coors = model.data_preprocessor(collate(points))["inputs"]["voxels"]["coors"]
        assert coors[:, 3].tolist() == list(range(20))

    def test_points_that_are_there_twice(self, model):
        points = sweep()["inputs"]["points"]
        assert_same(maps(model, torch.cat((points, points))), maps(model, points))

    def test_order_of_points(self, model):
        points = sweep()["inputs"]["points"]
        assert_same(maps(model, points.flip(0)), maps(model, points))

    def test_more_samples_than_given(self, model):
        points = [sweep(seed=i)["inputs"]["points"] for i in (0, 1)]
        inputs = model.data_preprocessor(collate(*points))["inputs"]
        with pytest.raises(ValueError, match=r"pillars lie outside of 1 samples"):
            model({**inputs, "points": inputs["points"][:1]})
        # fewer: the last ones are empty
        outs = model({**inputs, "points": [*inputs["points"], None]})
        empty = maps(model, torch.zeros(0, 4))
        assert_same({name: value[2:] for name, value in outs.items()}, empty)

    def test_other_channels(self, model):
        with pytest.raises(ValueError, match=r"DynamicVFE takes points .* \(N, 4\), got \(9, 5\)"):
            maps(model, torch.rand(9, 5))
        with pytest.raises(ValueError, match=r"sample 0 of the batch has points of the shape"):
            maps(model, torch.rand(9))

    def test_boxes_that_are_not_finite(self, model):
        batch = pseudo_collate([sweep()])
        batch["data_samples"][0].gt_instances_3d.bboxes_3d[0, 0] = torch.nan
        with pytest.raises(ValueError, match="sample 0 has boxes with NaN"):
            model(**model.data_preprocessor(batch), mode="loss")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_on_a_gpu(model):
    points = sweep()["inputs"]["points"]
    expected = maps(model, points)
    actual = maps(model.cuda(), points)
    assert_same({name: value.cpu() for name, value in actual.items()}, expected)
