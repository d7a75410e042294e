"""A block of FIT as a token mixer, against the formula group by group."""

from pathlib import Path

import pytest
import torch

from mmeffvit.layers import GroupLatentMixer, MapContext
from mmeffvit.layers.latents import CrossAttention, EncoderLayer
from mmeffvit.layers.sine_position import sine_map
from mmeffvit.testing import TOLERANCES, check_golden
from mmeffvit.visualization.attention import MixerCall, make_rows

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "fit.npz"


def test_encoder_equals_its_golden_numbers():
    errors = check_golden(GOLDEN)
    assert {"out/x", "out/latents"} < {*errors}
    assert max(errors.values()) < 1e-5 < TOLERANCES["fit"]


def read(layer, x, other, hidden=None):
    """Attention of one set of tokens (L, C) to another but those hidden from it, by head."""
    width = layer.q.out_features
    keys, values = layer.kv(other).split(width, -1)
    heads = []
    for q, k, v in zip(*(t.chunk(layer.num_heads, -1) for t in (layer.q(x), keys, values))):
        logits = q @ k.T * q.shape[-1] ** -0.5
        if hidden is not None:
            logits = logits.masked_fill(hidden, -torch.inf)
        heads.append(logits.softmax(-1) @ v)
    return layer.proj(torch.cat(heads, -1))


def literal(mixer, x):
    """One image, group by group; groups at the edges have the tokens that there are."""
    side, (height, width) = mixer.group_size, x.shape[1:]
    corners = [(y, x) for y in range(0, height, side) for x in range(0, width, side)]
    counts = -(-height // side), -(-width // side)
    code = sine_map(*counts, mixer.latents.shape[1], x.device)[0].flatten(1).T.to(x.dtype)
    places = [(slice(None), slice(y, y + side), slice(x, x + side)) for y, x in corners]
    tokens, locals_, latents = [], [], []
    for place, own in zip(places, code):
        t = x[place].flatten(1).T
        locals_.append(read(mixer.local, t, t))
        tokens.append(t + locals_[-1])
        first = mixer.latents + own
        exchange = mixer.read
        normed = exchange.norm(first), exchange.other_norm(tokens[-1])
        latents.append(first + read(exchange.attn, *normed))
    every = torch.cat(latents)
    hidden = torch.zeros(len(every), len(every), dtype=torch.bool)
    if mixer.causal:
        for first in range(0, len(every), len(mixer.latents)):
            hidden[first : first + len(mixer.latents), first + len(mixer.latents) :] = True
    for layer in mixer.layers:
        normed = layer.norm1(every)
        every = every + read(layer.attn, normed, normed, hidden)
        every = every + layer.fc2(torch.nn.functional.gelu(layer.fc1(layer.norm2(every))))
    out = torch.empty_like(x)
    for place, t, local, own in zip(places, tokens, locals_, every.split(len(mixer.latents))):
        written = read(mixer.write.attn, mixer.write.norm(t), mixer.write.other_norm(own))
        out[place] = (local + written).T.unflatten(1, x[place].shape[1:])
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [(6, 3), (5, 7), (2, 1)])
def test_equals_the_formula_group_by_group(size, causal):
    torch.manual_seed(0)
    options = {"num_latents": 2, "latent_dims": 12, "depth": 2, "causal": causal}
    mixer = GroupLatentMixer(8, 2, 3, **options).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([literal(mixer, image) for image in x])
    actual = mixer(x, MapContext.of(x))
    torch.testing.assert_close(actual, expected)
    inputs = [x, *mixer.parameters()]
    grads = [torch.autograd.grad(out.square().sum(), inputs) for out in (actual, expected)]
    for found, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(found, wanted)


def test_groups_know_of_one_another_and_of_their_place():
    mixer = GroupLatentMixer(8, 2, 2).eval()
    x = torch.randn(1, 8, 4, 6, requires_grad=True)
    out = mixer(x, MapContext.of(x))
    (gradient,) = torch.autograd.grad(out[0, :, 0, 0].sum(), x)
    assert (gradient.abs().sum(1) > 0).all()
    # the same tokens in all groups, and other sums: latents have codes
    x = torch.randn(1, 8, 2, 2).repeat(1, 1, 2, 3)
    out = mixer(x, MapContext.of(x))
    assert (out[..., :2, :2] - out[..., :2, 2:4]).abs().max() > 1e-6


def test_causal_latents_know_nothing_of_later_groups():
    mixer = GroupLatentMixer(8, 2, 2, causal=True).eval()
    x = torch.randn(1, 8, 4, 6, requires_grad=True)
    out = mixer(x, MapContext.of(x))
    # of the third of six groups, which are counted row by row
    (gradient,) = torch.autograd.grad(out[0, :, 1, 4].sum(), x)
    seen = gradient.abs().sum((0, 1)) > 0
    assert seen[:2].all()
    assert not seen[2:].any()
    (gradient,) = torch.autograd.grad(mixer(x, MapContext.of(x))[0, :, 2, 2].sum(), x)
    seen = gradient.abs().sum((0, 1)) > 0
    assert seen[:2].all()
    assert seen[2:, :4].all()
    assert not seen[2:, 4:].any()


def test_drawing():
    mixer = GroupLatentMixer(8, 2, 3)
    x = torch.randn(1, 8, 4, 7)
    call = MixerCall(0, 0, 1, 4, mixer, x, MapContext.of(x), None)
    (row,) = make_rows(call, (3, 5))
    inside, outside = (~shown.values.isnan() for shown in row.maps)
    assert inside.nonzero().tolist() == [[3, 3], [3, 4], [3, 5]]
    assert torch.equal(outside, ~inside)
    assert row.maps[1].values[outside].min() > 0


def test_impossible():
    with pytest.raises(ValueError, match="at least 1, got 0, 8 and 1"):
        GroupLatentMixer(8, 2, 0)
    with pytest.raises(ValueError, match="even and a multiple of num_heads, got 9 and 3"):
        GroupLatentMixer(12, 3, latent_dims=9)
    with pytest.raises(ValueError, match="width of 9 channels is no multiple of 2 heads"):
        CrossAttention(8, 8, 2, width=9)
    assert sum(p.numel() for p in EncoderLayer(8, 2, 2).parameters()) == 8 * 64 + 11 * 8
