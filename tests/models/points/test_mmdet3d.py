"""The networks do what mmdet3d's models ask of theirs: by contract, and with it where it loads.

The parents here call their parts as mmdet3d 1.4 does.
"""

import importlib
import sys
import types

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS as ROOT
from mmengine.registry import Registry
from torch import nn

from mmeffvit.models.points import ConDaFormer, FlatFormer
from mmeffvit.models.points import mmdet3d as mmdet3d_module
from mmeffvit.models.points.mmdet3d import register_in_mmdet3d
from mmeffvit.registry import MODELS

from .tiny import CONDAFORMER, DETECTOR, SEGMENTOR, room, sweep


def rounded_voxels(points, size):
    """What mmdet3d's preprocessor makes of a sample: rounded, the first point of each voxel."""
    coors = np.round(points[:, :3] / np.float32(size)).astype(np.int32)
    coors -= coors.min(0)
    _, rows, inverse = np.unique(coors, axis=0, return_index=True, return_inverse=True)
    return torch.from_numpy(points[rows]), torch.from_numpy(coors[rows]), inverse.ravel()


class TestMinkUNet:
    """backbone(voxels, coors) with int32 coors (batch, x, y, z), then a linear head on rows."""

    @staticmethod
    def batch(shift=0.0):
        voxels, coors = [], []
        for sample, count in enumerate((300, 150)):
            generator = torch.Generator().manual_seed(sample)
            points = torch.rand(count, 6, generator=generator).numpy()
            points[:, :3] += shift
            own, cells, _ = rounded_voxels(points, 0.1)
            voxels.append(own)
            coors.append(nn.functional.pad(cells, (1, 0), value=sample))
        return torch.cat(voxels), torch.cat(coors)

    def test_rows_in_rows_out(self):
        backbone = ROOT.build({"type": "mmeffvit.ConDaFormer", "arch": CONDAFORMER}).eval()
        voxels, coors = self.batch()
        assert coors.dtype == torch.int32
        out = backbone(voxels, coors)
        assert out.shape == (len(voxels), 48)
        assert nn.Linear(48, 20)(out).shape == (len(voxels), 20)
        assert torch.equal(out, backbone(voxels, coors.long()))

    @pytest.mark.parametrize("shift", [0.0, -3.217, 41.03])
    def test_rounding_is_a_voxelisation_like_flooring(self, shift):
        """Points lie up to half a voxel on both sides of a rounded voxel."""
        voxels, coors = self.batch(shift)
        apart = voxels[:, :3] / 0.1
        apart = apart - coors[:, 1:]
        for sample in (0, 1):
            own = apart[coors[:, 0] == sample]
            assert (own.amax(0) - own.amin(0)).max() > 0.9
        level = ConDaFormer(CONDAFORMER).finest_level(voxels, coors)
        inside = level.xyz - level.cells[:, 1:]
        assert inside.min() >= 0
        assert inside.max() <= 1.01
        torch.testing.assert_close(level.cells, coors.long())
        # the positions are those of the points, moved by less than a voxel
        for sample in (0, 1):
            own = coors[:, 0] == sample
            moved = level.xyz[own] - voxels[own, :3] / 0.1
            torch.testing.assert_close(moved, moved[:1].expand_as(moved), atol=1e-3, rtol=0)

    def test_our_preprocessor_gives_the_same(self):
        data = MODELS.build(SEGMENTOR["data_preprocessor"])(pseudo_collate([room(300)]))
        voxels, coors, inverse = rounded_voxels(room(300)["inputs"]["points"].numpy(), 0.1)
        ours = data["inputs"]["voxels"]
        assert torch.equal(ours["voxels"], voxels)
        assert torch.equal(ours["coors"][:, 1:].int(), coors)
        assert data["data_samples"][0].point2voxel_map.tolist() == inverse.tolist()

    def test_sample_in_the_last_column_is_refused(self):
        """mmdet3d's default for torchsparse; batch_first=True is what fits."""
        voxels, coors = self.batch()
        with pytest.raises(ValueError, match="the points of a sample must lie together"):
            ConDaFormer(CONDAFORMER)(voxels, coors[:, [1, 2, 3, 0]].flip(0))

    def test_head_in_its_place(self):
        """loss(x, samples, train_cfg) and predict(x, samples), as MinkUNet calls them."""
        model = MODELS.build(SEGMENTOR).eval()
        data = model.data_preprocessor(pseudo_collate([room(90), room(40, seed=1)]))
        voxel_dict, samples = data["inputs"]["voxels"], data["data_samples"]
        with torch.no_grad():
            x = model.backbone(voxel_dict["voxels"], voxel_dict["coors"].int())
            assert set(model.decode_head.loss(x, samples, None)) == {"loss_sem_seg"}
            logits = model.decode_head.predict(x, samples)
        assert [own.shape for own in logits] == [(90, 4), (40, 4)]


class TestDynamicVoxelNet:
    def test_batch_size_from_the_last_row(self):
        model = MODELS.build(DETECTOR).eval()
        points = [sweep(seed=i)["inputs"]["points"] for i in (0, 1)]
        data = model.data_preprocessor({"inputs": {"points": points}})
        voxel_dict = dict(data["inputs"]["voxels"])
        voxel_dict["coors"] = voxel_dict["coors"].int()
        with torch.no_grad():
            features, coors = model.voxel_encoder(voxel_dict["voxels"], voxel_dict["coors"])
            batch_size = voxel_dict["coors"][-1, 0].item() + 1
            x = model.middle_encoder(features, coors, batch_size)
            assert torch.equal(x, model.middle_encoder(features, coors.int(), batch_size))
            x = model.neck(model.backbone(x))
            expected = model(**data)
        assert isinstance(x, tuple)
        for name, value in model.bbox_head(x).items():
            torch.testing.assert_close(value, expected[name])


class TestRegistration:
    def test_bare_names(self, monkeypatch):
        models = Registry("model", parent=ROOT, scope="mmdet3d_of_a_test")
        package, module = types.ModuleType("mmdet3d"), types.ModuleType("mmdet3d.registry")
        module.MODELS = models
        monkeypatch.setitem(sys.modules, "mmdet3d", package)
        monkeypatch.setitem(sys.modules, "mmdet3d.registry", module)
        try:
            for _ in range(2):
                assert register_in_mmdet3d() == ["ConDaFormer", "FlatFormer"]
            assert models.get("ConDaFormer") is ConDaFormer
            assert models.get("FlatFormer") is FlatFormer
            # scoped names need no registration
            assert models.get("mmeffvit.DynamicVFE") is MODELS.get("DynamicVFE")
        finally:
            ROOT._children.pop("mmdet3d_of_a_test")

    @pytest.mark.parametrize(
        "content", ["assert False, 'MMCV==2.3.6 is used but incompatible'", None]
    )
    def test_without_it(self, monkeypatch, tmp_path, content):
        for name in [name for name in sys.modules if name.partition(".")[0] == "mmdet3d"]:
            monkeypatch.delitem(sys.modules, name)
        if content is None:
            monkeypatch.setitem(sys.modules, "mmdet3d", None)
        else:
            (tmp_path / "mmdet3d").mkdir()
            (tmp_path / "mmdet3d" / "__init__.py").write_text(content)
            monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(RuntimeError, match=r"mmdet3d cannot be imported .*PointSegmentor"):
            register_in_mmdet3d()

    def test_nothing_of_it_is_imported_with_ours(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "mmdet3d", None)
        importlib.reload(mmdet3d_module)


def _reason_not_to_import_mmdet3d():
    try:
        import mmdet3d  # noqa: F401
    except (ImportError, AssertionError) as error:
        return f"mmdet3d cannot be imported: {error}"
    return None


REASON = _reason_not_to_import_mmdet3d()


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
class TestInstalledMmdet3d:
    def test_minkunet(self):
        from mmdet3d.registry import MODELS as MMDET3D
        from mmdet3d.utils import register_all_modules

        register_all_modules()
        model = MMDET3D.build(
            {
                "type": "MinkUNet",
                "backbone": SEGMENTOR["backbone"],
                "decode_head": {
                    "type": "MinkUNetHead",
                    "channels": 48,
                    "num_classes": 4,
                    "dropout_ratio": 0,
                    "loss_decode": {"type": "mmdet.CrossEntropyLoss", "avg_non_ignore": True},
                    "ignore_index": 255,
                },
            }
        ).eval()
        # its own preprocessor needs CUDA
        data = MODELS.build(SEGMENTOR["data_preprocessor"])(pseudo_collate([room(90)]))
        assert model(**data, mode="loss")["loss_sem_seg"].isfinite()
        (sample,) = model(**data, mode="predict")
        assert sample.pred_pts_seg.pts_semantic_mask.shape == (90,)

    def test_register(self):
        from mmdet3d.registry import MODELS as MMDET3D

        register_in_mmdet3d()
        assert MMDET3D.get("ConDaFormer") is ConDaFormer
