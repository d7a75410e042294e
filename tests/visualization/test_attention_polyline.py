import pytest
import torch

from mmeffvit.models import PPMA
from mmeffvit.ops.polyline_attention import polyline_mask
from mmeffvit.visualization.attention import make_rows, path_maps, record_mixers

ARCH = {
    "embed_dims": (16, 16, 16, 16),
    "depths": (1, 1, 1, 1),
    "num_heads": (2, 2, 2, 2),
    "mlp_ratios": (1, 1, 1, 1),
    "decomposed": (True, False, False, False),
    "layer_scale": (None,) * 4,
}
TOKEN = (2, 5)


@pytest.fixture(scope="module")
def calls():
    torch.manual_seed(0)
    return record_mixers(PPMA(ARCH), torch.randn(1, 3, 40, 56), stages=(0, 1))


def test_paths_are_those_of_the_mask(calls):
    for call in calls:
        height, width = call.size
        index = TOKEN[0] * width + TOKEN[1]
        mask = polyline_mask(call.mixer.steps(call.x))[0].exp()
        row_first, column_first = path_maps(call, TOKEN)
        torch.testing.assert_close(row_first.flatten(1), mask[:, index])
        torch.testing.assert_close(column_first.flatten(1), mask[:, :, index])
        assert row_first.shape == (2, height, width)


def test_attention_times_values_is_the_output(calls):
    """With the steps of the mixer's own input, which the core got beside q, k and v."""
    for call in calls:
        weights = call.attention_of(TOKEN)
        q, k, v = call.tokens
        output = call.mixer.core(q, k, v, call.positions)[0].unflatten(0, call.size)[TOKEN]
        found = torch.einsum("hyx,yxhd->hd", weights, v[0].unflatten(0, call.size))
        torch.testing.assert_close(found, output, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2))


def test_rows_of_the_picture(calls):
    first, second, attention = make_rows(calls[0], TOKEN)
    assert "along its row, then along the column" in first.note
    assert "along its column, then along the row" in second.note
    assert "decomposed" in attention.note
    assert [m.title for m in first.maps] == ["head 0", "head 1"]
