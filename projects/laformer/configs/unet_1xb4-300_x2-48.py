# The same by plain convolutions on the enlarged image, with about as many multiply-accumulates.
_base_ = "laformer-sr_1xb4-300_x2-48.py"
model = dict(
    network=dict(_delete_=True, type="mmeffvit.PlainUNet", embed_dims=(14, 28, 56), scale=2),
)
