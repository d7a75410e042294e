# Mask R-CNN, FPN, a pyramid of SecViT-T's size with another token mixer in every stage, 12 epochs
# of COCO. No paper has this network; the recipe is RAVLT's (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_1x_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmeffvit.PyramidViT",
        arch=dict(
            embed_dims=(64, 128, 256, 512),
            depths=(2, 2, 9, 2),
            num_heads=(2, 4, 8, 16),
            mlp_ratios=(3, 3, 3, 3),
            mixers=(
                dict(type="mmeffvit.RALAMixer"),  # linear attention
                dict(type="mmeffvit.SECMixer", num_clusters=8, tokens_per_cluster=98),  # clusters
                dict(type="mmeffvit.MaSAMixer", decomposed=True),  # decay along rows and columns
                dict(type="mmeffvit.SECMixer"),  # one cluster: attention over the whole map
            ),
            layer_scale=(None,) * 4,
        ),
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
