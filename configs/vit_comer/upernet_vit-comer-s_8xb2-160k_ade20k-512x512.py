# UPerNet, ViT-CoMer-S, 160k iterations of ADE20K.
# The recipe is the authors' (README.md); it starts from a DeiT-S.
_base_ = "../_base_/segmentors/upernet_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.ViTCoMer", arch="seg-small"),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
    # windows over the image, which overlap by a third
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)

optim_wrapper = dict(
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.95, no_decay=True),
)
