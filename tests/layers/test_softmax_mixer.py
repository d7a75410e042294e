import pytest
import torch
import torch.nn.functional as F

from mmeffvit.layers import MapContext, SoftmaxMixer


def literal(mixer, x, window):
    """Attention window by window; zeros stand below and to the right of q, k and v."""
    _, dim, height, width = x.shape
    heads = mixer.num_heads
    qkv = torch.einsum("bchw,dc->bhwd", x, mixer.qkv.weight[..., 0, 0]) + mixer.qkv.bias
    rows, columns = (-(-n // window) * window for n in (height, width))
    padded = x.new_zeros(len(x), rows, columns, 3 * dim)
    padded[:, :height, :width] = qkv
    out = x.new_zeros(len(x), rows, columns, dim)
    for top in range(0, rows, window):
        for left in range(0, columns, window):
            cell = padded[:, top : top + window, left : left + window].flatten(1, 2)
            q, k, v = cell.unflatten(-1, (3, heads, -1)).unbind(2)
            logits = torch.einsum("bihd,bjhd->bhij", q, k) * (dim // heads) ** -0.5
            attended = torch.einsum("bhij,bjhd->bihd", logits.softmax(-1), v).flatten(2)
            out[:, top : top + window, left : left + window] = attended.unflatten(1, (window, -1))
    out = out[:, :height, :width]
    proj = torch.einsum("bhwc,dc->bdhw", out, mixer.proj.weight[..., 0, 0])
    return proj + mixer.proj.bias[:, None, None]


@pytest.mark.parametrize("size", [(6, 6), (5, 8), (7, 4)])
@pytest.mark.parametrize("window", [3, 10])
def test_windows_with_zeros_behind_the_projection(size, window):
    mixer = SoftmaxMixer(12, 3, window).double()
    x = torch.randn(2, 12, *size, dtype=torch.float64)
    torch.testing.assert_close(mixer(x, MapContext.of(x)), literal(mixer, x, window))


def test_without_windows_everything_attends():
    mixer = SoftmaxMixer(12, 3).double()
    x = torch.randn(2, 12, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(mixer(x, MapContext.of(x)), literal(mixer, x, 5))
    with pytest.raises(ValueError, match="at least 1 or None, got 0"):
        SoftmaxMixer(12, 3, 0)


@pytest.mark.parametrize("size", [(6, 6), (5, 8), (7, 4)])
@pytest.mark.parametrize("window", [3, 10])
def test_windows_of_a_map_that_is_filled_up_before_the_projection(size, window):
    """Nothing is projected there, and the result is the same."""
    mixer = SoftmaxMixer(12, 3, window, project_edges=True).double()
    x = torch.randn(2, 12, *size, dtype=torch.float64, requires_grad=True)
    height, width = size
    whole = F.pad(x, (0, -width % window, 0, -height % window))
    expected = literal(mixer, whole, window)[..., :height, :width]
    actual = mixer(x, MapContext.of(x))
    torch.testing.assert_close(actual, expected)
    inputs = [x, *mixer.parameters()]
    grads = [torch.autograd.grad(out.square().sum(), inputs) for out in (actual, expected)]
    for found, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_map_that_windows_divide_has_no_edges():
    given, projected = (SoftmaxMixer(12, 3, 3, project_edges=on) for on in (False, True))
    projected.load_state_dict(given.state_dict())
    x = torch.randn(2, 12, 6, 9)
    context = MapContext.of(x)
    assert torch.equal(given(x, context), projected(x, context))
    x = x[..., :5, :]
    context = MapContext.of(x)
    assert not torch.allclose(given(x, context), projected(x, context))
