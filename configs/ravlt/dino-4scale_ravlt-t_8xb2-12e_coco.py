# DINO, four scales, RAVLT-T. What differs from mmdet's with a ResNet-50 is the backbone; nothing of
# it has been trained on COCO here.
_base_ = "mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmeffvit.RAVLT",
        arch="tiny",
        out_indices=(1, 2, 3),
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[128, 256, 512]),
)
