# A narrow RMT, for images of 64 pixels.
arch = dict(
    embed_dims=(24, 48, 96, 128),
    depths=(1, 1, 2, 1),
    num_heads=(1, 2, 4, 4),
    mlp_ratios=(3, 3, 3, 3),
    decay_inits=(2, 2, 2, 2),
    decay_ranges=(4, 4, 6, 6),
    decomposed=(True, True, False, False),
    layer_scale=(None,) * 4,
)
