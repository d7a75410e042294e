# UPerNet, a pyramid with MSA-Conv in its first two stages, 160k iterations of ADE20K.
# No paper has this network, and it is not TiC; the recipe is RAVLT's (README.md).
_base_ = "../_base_/segmentors/upernet_8xb2-160k_ade20k-512x512.py"

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
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
