# mask-rcnn_hybrid-t_fpn_1x_coco.py with attention that knows the offset between two tokens, by
# factors of the weights (URPE) or gains of the logits (Gaussian mixtures), and with groups that
# speak to one another through latents (FIT). No paper has this network.
_base_ = "./mask-rcnn_hybrid-t_fpn_1x_coco.py"

model = dict(
    backbone=dict(
        arch=dict(
            mixers=(
                dict(type="mmeffvit.URPEMixer", window_size=7),
                dict(type="mmeffvit.GroupLatentMixer", group_size=8, num_latents=8),
                dict(type="mmeffvit.GaussianMixtureMixer", window_size=14, init="unit"),
                dict(type="mmeffvit.URPEMixer", window_size=None, grid_size=(25, 42)),
            ),
        ),
    ),
)

# tables of offsets are not pulled to zero
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "tables": dict(decay_mult=0.0),
        },
    ),
)
