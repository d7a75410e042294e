# Mask R-CNN, simple feature pyramid, ResFormer-S, 36 epochs of multi-scale COCO.
# The paper's own recipe is not known here: this is one of fine-tuning plain ViTs (README.md).
_base_ = "../_base_/detectors/mask-rcnn_plain_ms-3x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.ResFormer", arch="small"),
    neck=dict(in_channels=384),
)
