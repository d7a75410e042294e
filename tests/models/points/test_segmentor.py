import pytest
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from mmengine.runner import load_checkpoint
from torch import nn

from mmeffvit.checkpoint import CheckpointError, write_checkpoint
from mmeffvit.models.points import (
    ConDaFormer,
    PointData,
    PointDataSample,
    PointSegHead,
    PointSegmentor,
)
from mmeffvit.registry import MODELS

from .tiny import CONDAFORMER, SEGMENTOR, room


@pytest.fixture
def model():
    return MODELS.build(SEGMENTOR).eval()


@pytest.fixture
def batch():
    return pseudo_collate([room(200, seed=1), room(80, seed=2)])


def test_what_is_built(model):
    # the head takes its channels from the backbone
    assert model.decode_head.conv_seg.weight.shape == (4, 48)
    assert {key.partition(".")[0] for key in model.state_dict()} == {"backbone", "decode_head"}
    heads = {key for key in model.state_dict() if key.startswith("decode_head")}
    assert heads == {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}
    wide = PointSegmentor(ConDaFormer(CONDAFORMER), {"num_classes": 3}, test_cfg={"max_points": 9})
    assert wide.test_cfg == {"max_points": 9, "with_logits": False}
    with pytest.raises(ValueError, match=r"test_cfg has \['mode'\]; known are max_points"):
        PointSegmentor(nn.Identity(), nn.Identity(), test_cfg={"mode": "whole"})


def test_modes_agree(model, batch):
    model.test_cfg["with_logits"] = True
    data = model.data_preprocessor(batch)
    with torch.no_grad():
        logits = model(**data, mode="tensor")
        losses = model(**data, mode="loss")
        results = model(**data, mode="predict")
    samples = data["data_samples"]
    labels = torch.cat([sample.gt_pts_seg.voxel_semantic_mask for sample in samples])
    torch.testing.assert_close(losses["loss_sem_seg"], F.cross_entropy(logits, labels))
    assert len(logits) < 280
    start = 0
    for sample, points in zip(results, (200, 80)):
        own = logits[start : start + len(sample.batch_idx)][sample.point2voxel_map]
        start += len(sample.batch_idx)
        assert torch.equal(sample.pred_pts_seg.pts_seg_logits, own.t())
        assert torch.equal(sample.pred_pts_seg.pts_semantic_mask, own.argmax(1))
        assert len(own) == points
    with pytest.raises(ValueError, match="'tensor', 'loss' or 'predict', got 'train'"):
        model(**data, mode="train")


def test_without_labels(model):
    (sample,) = model.test_step({"inputs": {"points": [torch.rand(50, 6)]}})
    assert sample.pred_pts_seg.pts_semantic_mask.shape == (50,)
    assert "pts_seg_logits" not in sample.pred_pts_seg


class TestHead:
    @staticmethod
    def sample(*labels):
        return PointDataSample(gt_pts_seg=PointData(voxel_semantic_mask=torch.tensor(labels)))

    def test_what_is_ignored_does_not_count(self):
        head, x = PointSegHead(5, 3, ignore_index=7), torch.randn(4, 5)
        loss = head.loss(x, [self.sample(0, 7), self.sample(2, 7)])["loss_sem_seg"]
        expected = F.cross_entropy(head(x)[[0, 2]], torch.tensor([0, 2]))
        torch.testing.assert_close(loss, expected)
        nothing = head.loss(x, [self.sample(7, 7, 7, 7)])["loss_sem_seg"]
        nothing.backward()
        assert nothing == 0
        assert not head.conv_seg.weight.grad.any()

    def test_labels_that_do_not_fit(self):
        head, x = PointSegHead(5, 3), torch.randn(4, 5)
        with pytest.raises(ValueError, match="4 voxels have 2 labels"):
            head.loss(x, [self.sample(0, 1)])
        with pytest.raises(ValueError, match=r"0..2, or 255 .* got \[-1, 3\]"):
            head.loss(x, [self.sample(0, 3, 255, -1)])

    def test_weights_of_classes(self):
        weight = [1.0, 2.0, 0.5]
        head, x = PointSegHead(5, 3, class_weight=weight), torch.randn(4, 5)
        assert not any("weight" in key and "conv_seg" not in key for key in head.state_dict())
        loss = head.loss(x, [self.sample(0, 1, 255, 2)])["loss_sem_seg"]
        kept, labels = head(x)[[0, 1, 3]], torch.tensor([0, 1, 2])
        torch.testing.assert_close(loss, F.cross_entropy(kept, labels, torch.tensor(weight)))
        assert head.loss(x, [self.sample(255, 255, 255, 255)])["loss_sem_seg"] == 0
        with pytest.raises(ValueError, match="one entry for each of 3 classes, got 2"):
            PointSegHead(5, 3, class_weight=[1, 2])
        with pytest.raises(ValueError, match="loss_decode has its own"):
            PointSegHead(5, 3, class_weight=weight, loss_decode={"type": "mmeffvit.HalfLoss"})

    def test_loss_of_a_toolbox(self):
        @MODELS.register_module(force=True)
        class HalfLoss(nn.Module):
            def forward(self, logits, labels, ignore_index):
                assert ignore_index == 255
                return 0.5 * F.cross_entropy(logits, labels)

        plain, x = PointSegHead(5, 3), torch.randn(2, 5)
        half = PointSegHead(5, 3, loss_decode={"type": "mmeffvit.HalfLoss"})
        half.load_state_dict(plain.state_dict())
        losses = [head.loss(x, [self.sample(0, 2)])["loss_sem_seg"] for head in (plain, half)]
        torch.testing.assert_close(losses[0], 2 * losses[1])


class PlaceAndColour(nn.Module):
    """A backbone whose features are its input, so that votes can be counted by hand."""

    out_channels = 3
    calls = 0

    def forward(self, voxels, coors):
        self.calls += 1
        assert torch.equal(coors[:, 0].unique(), torch.arange(int(coors[-1, 0]) + 1))
        self.last = coors
        return voxels[:, 3:]


class TestFragments:
    @staticmethod
    def fragments():
        generator = torch.Generator().manual_seed(0)
        rows = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 1, 2]), torch.tensor([3, 0])
        return [
            {
                "points": torch.rand(len(index), 6, generator=generator),
                "coors": torch.randint(0, 9, (len(index), 3), generator=generator),
                "index": index,
            }
            for index in rows
        ]

    @staticmethod
    def model(**test_cfg):
        model = PointSegmentor(
            PlaceAndColour(),
            {"num_classes": 3},
            {"type": "mmeffvit.PointDataPreprocessor", "voxel_layer": {"voxel_size": (1, 1, 1)}},
            test_cfg={"with_logits": True, **test_cfg},
        ).eval()
        nn.init.eye_(model.decode_head.conv_seg.weight)
        nn.init.zeros_(model.decode_head.conv_seg.bias)
        return model

    def batch(self, fragments=None, num_points=5):
        one = {
            "inputs": {
                "points": torch.rand(num_points, 6),
                "fragments": self.fragments() if fragments is None else fragments,
            },
            "data_samples": PointDataSample(),
        }
        return pseudo_collate([one])

    @pytest.mark.parametrize(("max_points", "calls"), [(9, 1), (8, 2), (5, 2), (1, 3)])
    def test_votes(self, max_points, calls):
        model = self.model(max_points=max_points)
        (sample,) = model.test_step(self.batch())
        assert model.backbone.calls == calls
        total, votes = torch.zeros(5, 3), torch.zeros(5)
        for fragment in self.fragments():
            for row, features in zip(fragment["index"], fragment["points"]):
                total[row] += features[3:].softmax(0)
                votes[row] += 1
        assert votes.tolist() == [2, 2, 2, 2, 1]
        prediction = sample.pred_pts_seg
        torch.testing.assert_close(prediction.pts_seg_logits, (total / votes[:, None]).t())
        assert torch.equal(prediction.pts_semantic_mask, total.argmax(1))

    def test_samples_of_a_batch(self):
        (one,), (other,) = (self.model().test_step(self.batch()) for _ in range(2))
        two = {"points": self.batch()["inputs"]["points"] * 2}
        two["fragments"] = [self.fragments(), self.fragments()[::-1]]
        for sample in self.model().test_step({"inputs": two}):
            torch.testing.assert_close(
                sample.pred_pts_seg.pts_seg_logits, one.pred_pts_seg.pts_seg_logits
            )
        assert torch.equal(one.pred_pts_seg.pts_semantic_mask, other.pred_pts_seg.pts_semantic_mask)

    def test_points_without_a_vote_are_an_error(self):
        with pytest.raises(ValueError, match="1 of 6 raw points are in no fragment"):
            self.model().test_step(self.batch(num_points=6))
        with pytest.raises(ValueError, match="1 of 5 raw points"):
            self.model().test_step(self.batch([self.fragments()[i] for i in (0, 2)]))
        with pytest.raises(ValueError, match="rows 0 to 4 of 4 raw points"):
            self.model().test_step(self.batch(num_points=4))
        with pytest.raises(ValueError, match="5 of 5 raw points are in no fragment"):
            self.model().test_step({"inputs": {"points": [torch.rand(5, 6)], "fragments": [[]]}})

    def test_same_as_one_pass_with_a_network(self, model):
        """One fragment of the first point per voxel says what the pass over the voxels says."""
        points = torch.rand(60, 6)
        data = model.data_preprocessor({"inputs": {"points": [points]}})
        coors = data["inputs"]["voxels"]["coors"][:, 1:]
        voxels = data["inputs"]["voxels"]["voxels"]
        with torch.no_grad():
            expected = model(**data).argmax(1)
        rows = torch.arange(len(coors))
        fragments = [{"points": voxels, "coors": coors, "index": rows}]
        (sample,) = model.test_step({"inputs": {"points": [voxels], "fragments": [fragments]}})
        assert torch.equal(sample.pred_pts_seg.pts_semantic_mask, expected)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_a_whole_model(model, tmp_path, suffix):
    """As tools/convert_checkpoint.py writes them."""
    path = tmp_path / f"converted.{suffix}"
    write_checkpoint(model.state_dict(), path)
    init = {"type": "Pretrained", "checkpoint": str(path)}
    torch.manual_seed(1)
    loaded = MODELS.build({**SEGMENTOR, "init_cfg": init})
    loaded.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    if suffix == "pth":
        # what a runner does with `load_from`
        torch.manual_seed(2)
        loaded = MODELS.build(SEGMENTOR)
        load_checkpoint(loaded, str(path), strict=True)
        for key, value in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value), key
    other = {**SEGMENTOR, "init_cfg": init, "decode_head": {"num_classes": 3}}
    with pytest.raises(CheckpointError, match=r"decode_head.conv_seg.weight is \(4, 48\)"):
        MODELS.build(other).init_weights()
    # the backbone alone goes under another classifier
    init = {**init, "prefix": "backbone."}
    other = {
        **SEGMENTOR,
        "backbone": {**SEGMENTOR["backbone"], "init_cfg": init},
        "decode_head": {"num_classes": 3},
    }
    loaded = MODELS.build(other)
    loaded.init_weights()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(loaded.backbone.state_dict()[key], value), key


def test_votes_of_the_pipeline(model):
    """`TestTimeFragments` and `PackPointInputs`, through a loader's collating."""
    from mmengine.dataset import Compose

    pipeline = Compose(
        [
            {
                "type": "mmeffvit.TestTimeFragments",
                "voxel_size": 0.1,
                "variants": [[], [{"type": "mmeffvit.RandomFlip3D", "flip_ratio_bev_vertical": 1}]],
            },
            {"type": "mmeffvit.PackPointInputs"},
        ]
    )
    generator = torch.Generator().manual_seed(0)
    coord, color = torch.rand(2, 80, 3, generator=generator).numpy()
    batch = pseudo_collate([pipeline({"coord": coord[:n], "color": color[:n]}) for n in (80, 50)])
    counts = [len(sample.pred_pts_seg.pts_semantic_mask) for sample in model.test_step(batch)]
    assert counts == [80, 50]
