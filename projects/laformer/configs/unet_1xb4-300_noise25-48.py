# The same by plain convolutions, with about as many multiply-accumulates.
_base_ = "laformer-u_1xb4-300_noise25-48.py"
model = dict(
    network=dict(_delete_=True, type="mmeffvit.PlainUNet", embed_dims=(15, 30, 60)),
)
