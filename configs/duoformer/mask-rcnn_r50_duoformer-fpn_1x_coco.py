# Mask R-CNN, ResNet-50, attention across scales before FPN, 12 epochs of COCO.
# The paper has no detector: the neck is ours, the recipe mmdet's for the same model without it,
# with AdamW as transformers have it (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_1x_coco.py"

model = dict(
    neck=[
        dict(
            type="mmeffvit.CrossScaleAttention",
            in_channels=[256, 512, 1024, 2048],
            start_level=1,  # the map of stride 4 is FPN's alone
        ),
        dict(type="FPN", in_channels=[256] * 4, out_channels=256, num_outs=5),
    ],
)
