# RetinaNet, FPN, CrossFormer-S, 12 epochs of COCO.
# The recipe is the authors' (README.md).
_base_ = "../_base_/detectors/retinanet_fpn_1x_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmeffvit.CrossFormer",
        arch="small",
        out_indices=(1, 2, 3),
        out_norm=False,
    ),
    neck=dict(in_channels=[192, 384, 768]),
)
