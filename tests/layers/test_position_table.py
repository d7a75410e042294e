import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F

from mmeffvit.layers import PositionTable
from mmeffvit.layers.position_table import resize_table


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


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("example", [(4, 6), (5, 3)])
def test_exported_for_all_sizes_and_its_own(mode, example):
    """Also from an example of its own size, which must not become the only one."""
    layer = PositionTable(3, (4, 6), extra_tokens=1, mode=mode)
    sides = {2: torch.export.Dim("height", min=2), 3: torch.export.Dim("width", min=2)}
    program = torch.export.export(layer, (torch.randn(1, 3, *example),), dynamic_shapes=(sides,))
    assert {
        type(dim)
        for node in program.graph.nodes
        if node.op == "output"
        for dim in node.args[0][0].meta["val"].shape[2:]
    } == {torch.SymInt}
    for size in ((4, 6), (4, 5), (9, 6), (2, 3)):
        x = torch.randn(1, 3, *size)
        assert torch.equal(program.module()(x), layer(x))


def test_compiled_once_for_all_sizes_and_its_own():
    layer = PositionTable(3, (4, 6))
    torch._dynamo.reset()  # no side of an image is its channels: equal sizes become one symbol
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(layer, backend=counter, dynamic=True)
    for size in ((5, 8), (4, 6), (9, 6), (4, 7)):
        x = torch.randn(1, 3, *size)
        torch.testing.assert_close(compiled(x), layer(x))
        # resized in other operations, but at its own size the table is what it is
        assert size != (4, 6) or torch.equal(compiled(x), layer(x))
    assert counter.frame_count == 1


def test_a_graph_of_one_size_does_not_resize():
    layer = PositionTable(3, (4, 6))
    program = torch.export.export(layer, (torch.randn(1, 3, 4, 6),))
    assert not any("upsample" in str(node.target) for node in program.graph.nodes)


def test_without_memory_only_the_shape_changes_and_gradients_pass():
    table = torch.empty(1, 3, 4, 6, device="meta", requires_grad=True)
    with torch.no_grad():
        resized = resize_table(table, (5, 7))
    assert (resized.is_meta, resized.shape) == (True, (1, 3, 5, 7))
    resized = resize_table(table, (5, 7))
    (grad,) = torch.autograd.grad(resized.sum(), [table])
    assert (resized.shape, grad.shape) == ((1, 3, 5, 7), table.shape)
