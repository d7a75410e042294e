# Mask R-CNN, FPN, UniFormer-S with hybrid windows of 14, 36 epochs of multi-scale COCO.
# The recipe is the authors' (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmeffvit.UniFormer",
        arch="small",
        attention="hybrid",
        window_size=14,
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
