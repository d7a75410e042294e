# Mask R-CNN, FPN, a pyramid with MSA-Conv in its first two stages, 12 epochs of COCO.
# No paper has this network, and it is not TiC; the recipe is RAVLT's (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_1x_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmeffvit.PyramidViT",
        arch=dict(
            embed_dims=(64, 128, 256, 512),
            depths=(2, 2, 6, 2),
            num_heads=(1, 1, 8, 16),  # MSA-Conv has one head
            mlp_ratios=(3, 3, 3, 3),
            mixers=(
                dict(type="mmeffvit.MSAConvMixer"),
                dict(type="mmeffvit.MSAConvMixer", dilation=2),
                dict(type="mmeffvit.SoftmaxMixer"),
                dict(type="mmeffvit.SoftmaxMixer"),
            ),
            layer_scale=(None,) * 4,
        ),
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
