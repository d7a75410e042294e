# mask_rcnn_secvit_demo.py on a pyramid that no paper has tried: another token mixer in every stage.
# Costs grow with the area in the first two stages, with its power of 1.5 in the third.
_base_ = "./mask_rcnn_secvit_demo.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmeffvit.PyramidViT",
        arch=dict(
            embed_dims=(32, 64, 128, 256),
            depths=(1, 1, 3, 1),
            num_heads=(1, 2, 4, 8),
            mlp_ratios=(3, 3, 3, 3),
            mixers=(
                dict(type="mmeffvit.RALAMixer"),  # linear attention
                dict(type="mmeffvit.SECMixer", num_clusters=8, tokens_per_cluster=50),  # clusters
                dict(type="mmeffvit.MaSAMixer", decomposed=True),  # decay along rows and columns
                dict(type="mmeffvit.SECMixer"),  # one cluster: attention over the whole map
            ),
            layer_scale=(None,) * 4,
        ),
    ),
)

custom_hooks = [
    hook | dict(title="Mask R-CNN with a hybrid pyramid on handwritten digits")
    if hook["type"] == "mmeffvit.DetectionFiguresHook"
    else hook
    for hook in _base_.custom_hooks
]
