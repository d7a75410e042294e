import pytest
import torch
import torch.nn.functional as F

from mmeffvit.layers import PositionTable


def cubic(x, a=-0.75):
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def linear(x):
    return max(0.0, 1 - abs(x))


def resized(column, length, kernel):
    """One axis (n, ...) at another length: the written-out formula, edges repeated."""
    n, out = len(column), []
    for i in range(length):
        centre = (i + 0.5) * n / length - 0.5
        if kernel is linear:
            centre = max(centre, 0)
        first = int(centre // 1) - 1
        out.append(
            sum(kernel(centre - j) * column[min(max(j, 0), n - 1)] for j in range(first, first + 4))
        )
    return torch.stack(out)


@pytest.mark.parametrize(("mode", "kernel"), [("bicubic", cubic), ("bilinear", linear)])
@pytest.mark.parametrize("size", [(5, 3), (2, 7), (4, 6)])
def test_resizes_by_the_formula(mode, kernel, size):
    layer = PositionTable(3, (4, 6), extra_tokens=1, mode=mode).double()
    table = layer.table.detach()[0, 1:].unflatten(0, (4, 6))
    expected = resized(table, size[0], kernel)
    expected = resized(expected.transpose(0, 1), size[1], kernel).transpose(0, 1)
    torch.testing.assert_close(layer.of_map(*size)[0], expected.permute(2, 0, 1))
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x + expected.permute(2, 0, 1))
    assert torch.equal(layer.of_extra_tokens(), layer.table[0, :1])


def test_its_own_size_is_its_own_numbers():
    layer = PositionTable(3, (4, 6), extra_tokens=2)
    assert torch.equal(layer.of_map(4, 6)[0].flatten(1).T, layer.table[0, 2:])


def test_keeps_one_size_until_the_table_changes():
    layer = PositionTable(3, (4, 4)).eval()
    with torch.inference_mode():
        first = layer.of_map(5, 6)
        assert layer.of_map(5, 6) is first
    assert layer.of_map(5, 6).requires_grad  # what trains is made anew
    layer.requires_grad_(False)
    assert layer.of_map(5, 6) is first
    assert not first.is_inference()
    with torch.no_grad():
        layer.table.add_(1)
    torch.testing.assert_close(layer.of_map(5, 6), first + 1)
    layer.double()
    assert layer.of_map(5, 6).dtype == torch.float64


@pytest.mark.parametrize(("extra", "given"), [(1, 1), (0, 1), (1, 0), (1, 2), (2, 1)])
def test_fits_tables_of_other_sizes(extra, given):
    layer = PositionTable(3, (4, 6), extra_tokens=extra)
    slots, square = torch.randn(given, 3), torch.randn(3, 9, 9)
    value = torch.cat((slots, square.flatten(1).T))[None]
    fitted = layer.fitted(value)
    assert fitted.shape == layer.table.shape
    both = min(extra, given)
    assert torch.equal(fitted[0, :both], slots[:both])
    assert not fitted[0, both:extra].any()
    expected = F.interpolate(square[None], (4, 6), mode="bicubic")[0].flatten(1).T
    torch.testing.assert_close(fitted[0, extra:], expected)


def test_what_does_not_fit():
    layer = PositionTable(3, (4, 4))
    assert layer.fitted(torch.randn(1, 16, 4)) is None
    assert layer.fitted(torch.randn(1, 13, 3)) is None
    with pytest.raises(ValueError, match="'bicubic' or 'bilinear', got 'nearest'"):
        PositionTable(3, (4, 4), mode="nearest")
