# The encoder-decoder of condaformer_rooms_demo.py with mixers of the image pyramids: attention in
# three planes at the finest level, linear attention at the next, clusters at the coarsest.
_base_ = "condaformer_rooms_demo.py"

tri_plane = dict(
    type="mmeffvit.TriPlaneMixer", window_size=6, quant_size=0.25, per_sample_windows=True
)
linear = dict(type="mmeffvit.PointRALAMixer")
clusters = dict(type="mmeffvit.PointSECMixer", num_clusters=2, tokens_per_cluster=48)

# encoder stages, then decoder stages, which have no blocks here
model = dict(backbone=dict(mixer=[tri_plane, linear, clusters, clusters, linear, tri_plane]))

# fewer steps than there: a second one shows that it trains
max_iters = 100
train_cfg = dict(max_iters=max_iters, val_interval=50)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=False, begin=20, end=max_iters),
]
custom_hooks = [
    *_base_.custom_hooks[:-1],
    dict(type="mmeffvit.PointSegFiguresHook", title="A hybrid of point mixers on made-up rooms"),
]
default_hooks = dict(checkpoint=dict(interval=50))
