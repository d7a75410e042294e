# mask_rcnn_hybrid_demo.py with attention that knows the offset between two tokens, by factors of
# the weights (URPE) in windows and on the whole map, or by gains of the logits (Gaussian mixtures),
# and with groups that speak to one another through latents (FIT).
_base_ = "./mask_rcnn_hybrid_demo.py"

model = dict(
    backbone=dict(
        arch=dict(
            mixers=(
                dict(type="mmeffvit.URPEMixer", window_size=5),
                dict(type="mmeffvit.GroupLatentMixer", group_size=5, num_latents=4, mlp_ratio=2),
                dict(type="mmeffvit.GaussianMixtureMixer", init="unit"),
                dict(type="mmeffvit.URPEMixer", window_size=None, grid_size=(5, 5)),
            ),
        ),
    ),
)

custom_hooks = [
    hook | dict(title="Mask R-CNN with tables of offsets and latents on handwritten digits")
    if hook["type"] == "mmeffvit.DetectionFiguresHook"
    else hook
    for hook in _base_.custom_hooks
]
