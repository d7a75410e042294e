# Mask R-CNN, simple feature pyramid, ViTAR-S, 36 epochs of multi-scale COCO.
# The schedule's length is the paper's; everything else of the recipe is ours (README.md).
_base_ = "../_base_/detectors/mask-rcnn_plain_ms-3x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.ViTAR", arch="small"),
    neck=dict(in_channels=384),
)
