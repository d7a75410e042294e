"""What is drawn of the mixers: recorded calls, attention, clusters, scans, decay, token weights."""

import math

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from torch.nn.functional import elu

from mmeffvit import create_backbone, list_backbones
from mmeffvit.layers import MapContext
from mmeffvit.layers.context import rotary_1d, rotary_2d
from mmeffvit.layers.mixers import (
    CrossShapedMixer,
    GatedSoftmaxMixer,
    MaSAMixer,
    RALAMixer,
    S3AMixer,
    SECMixer,
    TokenMixer,
)
from mmeffvit.models.backbones import Pyramid, PyramidViT
from mmeffvit.models.zoo import backbone_classes, split_name
from mmeffvit.ops import apply_rotary, neighbour_tokens, sec_cluster_ids
from mmeffvit.visualization.attention import (
    MapRow,
    MixerCall,
    TokenMap,
    attention_rows,
    cluster_maps,
    count_paths,
    decay_maps,
    draw_attention,
    draw_features,
    input_size,
    make_rows,
    maps,
    principal_colours,
    read_image,
    record_mixers,
    register_drawing,
    scan_steps,
    to_input,
    weight_maps,
    window_map,
)
from mmeffvit.visualization.attention.sheet import _PANEL

SIZE = (9, 14)
TOKEN = (2, 11)
ALL_MIXERS = [
    lambda: SECMixer(16, 2, num_clusters=4),
    lambda: SECMixer(16, 2, num_clusters=1),
    lambda: S3AMixer(16, 2, window_size=3),
    lambda: S3AMixer(16, 2, window_size=3, reverse=True),
    lambda: MaSAMixer(16, 2),
    lambda: MaSAMixer(16, 2, decomposed=True),
    lambda: RALAMixer(16, 2),
    lambda: GatedSoftmaxMixer(16, 2),
    lambda: CrossShapedMixer(16, 2),
    lambda: CrossShapedMixer(16, 2, 1),
]


def make_call(mixer, size=SIZE):
    """A mixer at work on random tokens, of float64 where its operator allows it."""
    x = torch.randn(1, mixer.embed_dims, *size)
    context = MapContext.of(x)
    tokens = torch.randn(3, 1, context.num_tokens, mixer.num_heads, mixer.head_dim).unbind()
    tokens = tokens if hasattr(mixer, "core") else None
    return MixerCall(0, 0, 1, 4, mixer, x, context, tokens)


def hybrid(**kwargs):
    arch = {
        "embed_dims": (16, 16, 32, 32),
        "depths": (2, 1, 2, 1),
        "num_heads": (2, 1, 2, 4),
        "mlp_ratios": (1, 1, 1, 1),
        "layer_scale": (None,) * 4,
        "mixers": [
            [{"type": "mmeffvit.RALAMixer"}, {"type": "mmeffvit.S3AMixer", "window_size": 3}],
            {"type": "mmeffvit.SECMixer", "num_clusters": 4},
            [{"type": "mmeffvit.MaSAMixer", "decomposed": d} for d in (True, False)],
            {"type": "mmeffvit.GatedSoftmaxMixer"},
        ],
    }
    return PyramidViT(arch, **kwargs)


def texts(figure):
    """All words, each where it stands."""
    return [text for text in figure.findobj(Text) if text.get_text()]


def words_of(figure):
    return " ".join(text.get_text() for text in texts(figure))


# -- recording -------------------------------------------------------------------------------------


def test_recording_keeps_what_mixers_get_and_changes_nothing():
    backbone = hybrid(with_cp=True).train()
    image = torch.randn(1, 3, 64, 96)
    calls = record_mixers(backbone, image, blocks=(0, -1))
    assert backbone.training
    assert [(c.stage, c.block) for c in calls] == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (3, 0)]
    assert [c.size for c in calls] == [(16, 24)] * 2 + [(8, 12)] + [(4, 6)] * 2 + [(2, 3)]
    assert [type(c.mixer).__name__ for c in calls] == [
        *("RALAMixer", "S3AMixer", "SECMixer", "MaSAMixer", "MaSAMixer", "GatedSoftmaxMixer")
    ]
    for call in calls:
        assert not call.mixer._forward_pre_hooks
        assert not call.mixer.core._forward_pre_hooks
        channels, tokens = call.mixer.embed_dims, call.context.num_tokens
        qkv = torch.cat([part.flatten(2) for part in call.mixer.qkv(call.x)], 2)
        for part, name in enumerate("qkv"):
            expected = qkv[..., part * channels : (part + 1) * channels]
            got = call.tokens[part].reshape(1, tokens, channels)
            torch.testing.assert_close(got, expected, msg=name)


@pytest.mark.parametrize("make_mixer", ALL_MIXERS)
def test_attention_times_values_is_the_output(make_mixer):
    call = make_call(make_mixer())
    weights = call.attention_of(TOKEN)
    assert weights.shape == (2, *SIZE)
    q, k, v = call.tokens
    output = call.mixer.core(q, k, v, call.mixer.positions(call.context))[0].unflatten(0, SIZE)[
        TOKEN
    ]
    from_weights = torch.einsum("hyx,yxhd->hd", weights, v[0].unflatten(0, SIZE))
    torch.testing.assert_close(from_weights, output, rtol=1e-4, atol=1e-5)
    if not isinstance(call.mixer, RALAMixer):
        torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2))
        assert weights.min() >= 0


@pytest.mark.parametrize("mixer_type", [GatedSoftmaxMixer, SECMixer])
def test_plain_attention_is_the_softmax_of_products(mixer_type):
    call = make_call(mixer_type(16, 2))
    table = rotary_2d(call.context, 8)
    q, k = (apply_rotary(t, table)[0] for t in call.tokens[:2])
    index = TOKEN[0] * SIZE[1] + TOKEN[1]
    expected = torch.einsum("hd,lhd->hl", q[index], k).mul(8**-0.5).softmax(-1)
    torch.testing.assert_close(call.attention_of(TOKEN).flatten(1), expected)


def test_pixels_belong_to_the_token_that_covers_them():
    call = make_call(SECMixer(16, 2), size=(3, 5))
    assert call.token_at(0, 0) == (0, 0)
    assert call.token_at(3.9, 4) == (0, 1)
    assert call.token_at(11.5, 19.5) == (2, 4)


def test_influence_of_a_mixer_without_a_core():
    class Shift(TokenMixer):
        def forward(self, x, context):
            return 3 * x.roll((1, 2), (2, 3))

    call = make_call(Shift(16, 2))
    influence = call.influence_on((4, 5))
    # one output channel depends on one input channel out of 16
    expected = torch.zeros(SIZE)
    expected[3, 3] = 3 / math.sqrt(16)
    torch.testing.assert_close(influence, expected)
    with pytest.raises(TypeError, match="Shift has no core"):
        call.attention_of((4, 5))
    (row,) = make_rows(call, (4, 5))
    assert [m.title for m in row.maps] == ["all channels"]
    torch.testing.assert_close(row.maps[0].values, expected)


# -- each operator ---------------------------------------------------------------------------------


def test_clusters_of_constructed_keys():
    mixer = SECMixer(8, 2, num_clusters=4)
    call = make_call(mixer, size=(4, 6))
    # pairs (1, +t), (1, -t) around the mean (1, 0): the larger t, the less similar
    t = torch.arange(12.0).repeat_interleave(2) * torch.tensor([1.0, -1.0]).repeat(12)
    order = torch.stack([torch.randperm(24), torch.randperm(24)])
    keys = torch.zeros(1, 24, 2, 4)
    for head in range(2):
        keys[0, order[head], head, 0] = 1
        keys[0, order[head], head, 1] = t
    # the mixer rotates by position: turn back before
    table = rotary_2d(call.context, 4) * torch.tensor([1.0, -1.0])
    call = MixerCall(
        0, 0, 1, 4, mixer, call.x, call.context, (keys, apply_rotary(keys, table), keys)
    )
    ids = cluster_maps(call)
    expected = torch.empty(2, 24, dtype=torch.int64)
    for head in range(2):
        expected[head, order[head]] = 3 - torch.arange(24) // 6
    assert torch.equal(ids.flatten(1), expected)
    assert torch.bincount(ids[0].flatten()).tolist() == [6] * 4


def test_clusters_are_those_that_attention_stays_in():
    call = make_call(SECMixer(16, 2, num_clusters=5))
    ids = cluster_maps(call)
    keys = apply_rotary(call.tokens[1], rotary_2d(call.context, 8))
    assert torch.equal(ids.flatten(1), sec_cluster_ids(keys, 5)[0])
    # 126 tokens
    assert torch.bincount(ids[1].flatten()).tolist() == [26, 25, 25, 25, 25]
    for token in (TOKEN, (0, 0)):
        own = ids == ids[:, token[0], token[1]][:, None, None]
        assert torch.equal(call.attention_of(token) != 0, own)
    row, attention = make_rows(call, TOKEN)
    assert "5 clusters of 25 or 26 tokens" in row.note
    assert row.maps[1].limits == (0, 4)
    assert row.maps[1].title == f"head 1: marked token in cluster {ids[1][TOKEN]}"
    torch.testing.assert_close(attention.maps[1].values, call.attention_of(TOKEN)[1] * 126)


@pytest.mark.parametrize("size", [(9, 14), (13, 13), (3, 5), (1, 1)])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan_reads_exactly_what_changes_the_output(size, reverse):
    call = make_call(S3AMixer(16, 2, window_size=3, reverse=reverse), size)
    token = (size[0] // 3, size[1] - 1)
    steps = scan_steps(call)
    reached = count_paths(size, steps, token) > 0
    assert torch.equal(call.attention_of(token) != 0, reached.expand(2, *size))
    assert bool(steps) == (size != (1, 1))
    index = token[0] * size[1] + token[1]
    if steps:
        # keys are read where values are
        q, k, v = (t.clone().requires_grad_() for t in call.tokens)
        out = call.mixer.core(q, k, v, call.mixer.positions(call.context))[0, index]
        (gradient,) = torch.autograd.grad(out.square().sum(), k)
        assert torch.equal((gradient[0] != 0).flatten(1).any(1).unflatten(0, size), reached)
    for step in steps:
        read = neighbour_tokens(*size, *step)[index]
        expected = torch.zeros(size[0] * size[1], dtype=torch.int64)
        expected[read] = 1
        assert torch.equal(count_paths(size, [step], token).flatten(), expected)


def test_ways_are_the_attention_of_equal_keys():
    call = make_call(S3AMixer(16, 2, window_size=3))
    _, k, v = call.tokens
    call = MixerCall(0, 0, 1, 4, call.mixer, call.x, call.context, (torch.zeros_like(k), k, v))
    steps = scan_steps(call)
    paths = count_paths(SIZE, steps, TOKEN)
    assert len(steps) == 2
    assert paths.sum() == math.prod(math.prod(step.kernel) for step in steps)
    expected = (paths / paths.sum()).expand(2, *SIZE)
    torch.testing.assert_close(call.attention_of(TOKEN), expected)
    rows = make_rows(call, TOKEN)
    assert len(rows[0].maps) == 3
    assert torch.equal(rows[0].maps[2].values.nan_to_num(0), paths.float())


@pytest.mark.parametrize("decomposed", [False, True])
def test_decay_and_attention_with_it(decomposed):
    call = make_call(MaSAMixer(16, 2, decomposed=decomposed))
    factors = decay_maps(call, TOKEN)
    rates = [math.log(1 - 2.0 ** -(2 + 4 * head / 2)) for head in range(2)]
    for dy, dx in ((0, 0), (0, -1), (3, 2), (-2, -11)):
        for head in range(2):
            expected = math.exp(rates[head] * (abs(dy) + abs(dx)))
            assert factors[head, TOKEN[0] + dy, TOKEN[1] + dx] == pytest.approx(expected, rel=1e-5)
    table = rotary_1d(call.context, 8)
    q, k = (apply_rotary(t, table)[0].unflatten(0, SIZE) for t in call.tokens[:2])
    products = torch.einsum("hd,yxhd->hyx", q[TOKEN], k).mul(8**-0.5).exp()
    if decomposed:
        # along the column of the query, then along the row of each token in it
        down = (products * factors)[:, :, TOKEN[1]]
        down = down / down.sum(-1, keepdim=True)
        along = torch.einsum("yhd,yxhd->hyx", q[:, TOKEN[1]], k).mul(8**-0.5).exp()
        along = along * factors[:, TOKEN[0], None]
        expected = down[..., None] * along / along.sum(-1, keepdim=True)
    else:
        expected = products * factors
        expected = expected / expected.sum((1, 2), keepdim=True)
    torch.testing.assert_close(call.attention_of(TOKEN), expected)
    row, _ = make_rows(call, TOKEN)
    assert row.maps[0].title == "head 0: halves in 2.4 tokens"


@pytest.mark.parametrize("width", [1, 2, 3, 20])
def test_stripes_are_those_that_attention_stays_in(width):
    call = make_call(CrossShapedMixer(16, 2, width))
    weights = call.attention_of(TOKEN)
    windows = [window_map(SIZE, window) for window in call.mixer.core.windows]
    for attention, numbers in zip(weights, windows):
        assert torch.equal(attention > 0, numbers == numbers[TOKEN])
    # nine rows in stripes of two: a zero below, none above; of three there are three
    rows = windows[1][:, 0].tolist()
    if width in (2, 3):
        assert rows == [i // width for i in range(9)]
    stripes, *_ = make_rows(call, TOKEN)
    vertical, horizontal, cross = (torch.isfinite(m.values) for m in stripes.maps)
    assert torch.equal(vertical, weights[0] > 0)
    assert torch.equal(horizontal, weights[1] > 0)
    assert torch.equal(cross, vertical | horizontal)
    assert stripes.maps[0].title == f"head 0: 9×{min(width, 14, vertical[0].sum())} tokens"


def test_token_weights_average_to_one():
    call = make_call(RALAMixer(16, 2))
    weights = weight_maps(call)
    torch.testing.assert_close(weights.mean((1, 2)), torch.ones(2))
    q, k = (elu(t[0]) + 1 for t in call.tokens[:2])
    logits = torch.einsum("hd,lhd->hl", q.mean(0), k) * 8**-0.5
    torch.testing.assert_close(weights.flatten(1), logits.softmax(-1) * 126)


def test_negative_attention_is_drawn_around_zero():
    call = make_call(RALAMixer(16, 2))
    row = make_rows(call, TOKEN)[1]
    values = row.maps[0].values
    assert values.min() < 0
    assert row.maps[0].limits == (-values.abs().max(), values.abs().max())


# -- choosing and registering ----------------------------------------------------------------------


def test_a_drawing_of_ones_own(monkeypatch):
    monkeypatch.setattr(maps, "_DRAWINGS", dict(maps._DRAWINGS))

    class Heir(SECMixer):
        pass

    class Stranger(GatedSoftmaxMixer):
        pass

    @register_drawing(Stranger)
    def draw(call, token, heads):
        return [MapRow("ones", [TokenMap(torch.ones(call.size), f"{len(heads)} heads at {token}")])]

    assert "clusters" in make_rows(make_call(Heir(16, 2, num_clusters=3)), TOKEN)[0].note
    (row,) = make_rows(make_call(Stranger(16, 4)), TOKEN, heads=(0, 2, 3))
    assert row.maps[0].title == "3 heads at (2, 11)"


def test_heads():
    call = make_call(GatedSoftmaxMixer(64, 16))
    titles = [m.title.partition(":")[0] for m in make_rows(call, TOKEN)[0].maps]
    assert titles == ["head 0", "head 5", "head 10", "head 15"]
    (row,) = attention_rows(call, TOKEN, [7])
    torch.testing.assert_close(row.maps[0].values, call.attention_of(TOKEN)[7] * 126)
    with pytest.raises(ValueError, match="no head 16 in stage 0, whose GatedSoftmaxMixer has the"):
        make_rows(call, TOKEN, heads=[16])


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in list_backbones("*-tiny")
        if issubclass(backbone_classes()[split_name(name)[0]], Pyramid)
    ],
)
def test_backbones_by_name(name):
    backbone = create_backbone(name)
    calls = record_mixers(backbone, torch.randn(1, 3, 32, 64))
    # the stem is a stage of its own in SReT
    first = 1 if name == "sret-tiny" else 0
    assert [call.stage for call in calls] == list(range(first, 4))
    for call in calls:
        for row in make_rows(call, call.token_at(20, 50), heads=[0]):
            for token_map in row.maps:
                assert token_map.values.shape == call.size
                assert not token_map.values.isinf().any()
                assert not token_map.values.isnan().all()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vit-tiny", [(3, 5)]),
        ("resformer-tiny", [(3, 5)]),
        ("crossvit-tiny", [(4, 6), (3, 5)]),
        ("vit-comer-seg-tiny", [(4, 6)]),
        ("vitar-small", [(3, 5)]),
    ],
)
def test_plain_networks_have_one_stage_per_branch(name, sizes):
    """With class tokens, which attend and are no part of the map, and without; padded to 32."""
    backbone = create_backbone(name)
    calls = record_mixers(backbone, torch.randn(1, 3, 44, 70), blocks=(0,))
    assert [call.size for call in calls] == sizes
    for call in calls:
        assert call.extra == (0 if name.startswith(("vit-comer", "vitar")) else 1)
        assert call.token_at(43, 69) == (43 // call.stride, 69 // call.stride)
        assert call.influence_on((1, 2)).shape == call.size
        if name.startswith("vitar"):  # its windows hold zeros as well
            continue
        q, k, v = (t[0, :, 1] for t in call.tokens)
        place = call.extra + call.size[1] + 2  # row 1, column 2
        expected = (q[place] @ k.T / q.shape[-1] ** 0.5).softmax(-1)
        actual = call.attention_of((1, 2))[1]
        torch.testing.assert_close(actual.flatten(), expected[call.extra :])
        (row,) = attention_rows(call, (1, 2), [1])
        torch.testing.assert_close(row.maps[0].values, actual * len(v))


def test_impossible_stages_and_blocks():
    backbone, image = hybrid(out_indices=(0, 1)), torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match="no stage 2: PyramidViT has the stages 0 to 1"):
        record_mixers(backbone, image, stages=[2])
    with pytest.raises(ValueError, match="no block 1 in stage 1: it has 1 with a token mixer"):
        record_mixers(backbone, image, blocks=[1])
    with pytest.raises(ValueError, match="Sequential has no token mixers"):
        record_mixers(torch.nn.Sequential(), image)


# -- features --------------------------------------------------------------------------------------


def test_principal_colours_find_the_directions():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 20), torch.linspace(-1, 1, 30), indexing="ij")
    patterns = torch.stack([3 * x, 2 * y, (x * y)])
    mixing = torch.linalg.qr(torch.randn(8, 8)).Q[:, :3]
    features = torch.einsum("cp,phw->chw", mixing, patterns) + 5
    colours = principal_colours(features)
    assert colours.shape == (20, 30, 3)
    assert (colours.amin((0, 1)) == 0).all()
    assert (colours.amax((0, 1)) == 1).all()
    for colour, pattern in zip(colours.unbind(-1), patterns):
        # the percentiles cut the ends off
        correlation = torch.corrcoef(torch.stack([colour.flatten(), pattern.flatten()]))[0, 1]
        assert abs(correlation) > 0.99
    # a sign that does not change with the features' own
    torch.testing.assert_close(principal_colours(features), colours)


def test_features_of_some_stages():
    backbone = hybrid(out_indices=(1, 3))
    image = np.zeros((40, 60, 3), np.uint8)
    figure = draw_features(backbone, image, size=(64, 96), weights="w.pth")
    words = words_of(figure)
    assert "stage 1: 16 × 8 × 12" in words
    assert "stage 3: 32 × 2 × 3" in words
    assert "weights: w.pth" in words
    assert "random" not in words
    with pytest.raises(ValueError, match="no map of stage 0: PyramidViT returns those"):
        draw_features(backbone, image, stages=[0])


# -- the sheet -------------------------------------------------------------------------------------


def test_sheet_shows_cells_where_they_are():
    image = np.full((50, 100, 3), 120, np.uint8)
    figure = draw_attention(
        hybrid(), image, size=(40, 80), query=(49, 0), stages=[1], title="hybrid on grey"
    )
    words = words_of(figure)
    assert "Stage 1, block 0 (the last): SECMixer, 5 × 10 tokens, 1 head" in words
    assert "hybrid on grey" in words
    assert "random weights" in words
    pictures = [a for a in figure.axes if a.lines]
    # the image, clusters, attention
    assert len(pictures) == 3
    for axes in pictures:
        assert axes.get_xlim() == (0, 80)
        assert axes.get_ylim() == (40, 0)
        ring = axes.lines[-1].get_xydata()[0]
        np.testing.assert_allclose(ring, (0.4, 39.6))
        # the box has the proportions of the input
        box = axes.get_position()
        width, height = figure.get_size_inches() * 100
        np.testing.assert_allclose((box.width * width, box.height * height), (_PANEL, _PANEL / 2))
    clusters = pictures[1].images[-1]
    assert clusters.get_extent() == [0, 80, 40, 0]
    colours = clusters.to_rgba(clusters.get_array())[..., :3]
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 4
    # attention outside of the cluster leaves most of the image
    attention = pictures[2].images[-1]
    alpha = attention.to_rgba(attention.get_array())[..., 3]
    assert alpha.min() == pytest.approx(0.35)
    assert alpha[4, 0] > 0.4


def test_maps_may_be_larger_than_the_image():
    figure = draw_attention(hybrid(), np.zeros((45, 45, 3), np.uint8), size=(45, 45), stages=[3])
    axes = [a for a in figure.axes if a.lines][1]
    # two tokens of 32 pixels cover 64, of which 45 are seen
    assert axes.images[-1].get_extent() == [0, 64, 64, 0]
    assert axes.get_xlim() == (0, 45)


def test_words_stay_on_the_sheet():
    image = np.zeros((96, 32, 3), np.uint8)
    figure = draw_attention(hybrid(), image, size=(96, 32), blocks=(0, -1))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # puts the words of legends in their places
    renderer = canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    assert len(texts(figure)) > 40
    for text in texts(figure):
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text


@pytest.mark.parametrize("query", [(50, 0), (0, 100), (-1, 0)])
def test_query_outside_of_the_image(query):
    with pytest.raises(ValueError, match=r"is not in the image, which has 50 rows \(0 to 49\)"):
        draw_attention(hybrid(), np.zeros((50, 100, 3), np.uint8), query=query)


def test_input_sizes_keep_proportions():
    assert input_size(np.zeros((300, 451, 3))) == (224, 352)
    assert input_size(np.zeros((512, 512, 3))) == (224, 224)
    assert input_size(np.zeros((900, 600, 3))) == (320, 224)


def test_networks_of_other_channels_get_the_colours_in_turn():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    rgb = to_input(image, (32, 32))
    assert torch.equal(to_input(image, (32, 32), 5), rgb[:, [0, 1, 2, 0, 1]])
    assert torch.allclose(to_input(image, (32, 32), 1), rgb.mean(1, keepdim=True), atol=1e-6)
    backbone = create_backbone("secvit-tiny", in_channels=2, out_indices=(0,))
    assert draw_features(backbone, image, size=(64, 64)).axes


def test_unreadable_images_are_named(tmp_path):
    file = tmp_path / "notes.png"
    with pytest.raises(ValueError, match=r"there is no image at '.*notes\.png'"):
        read_image(file)
    file.write_text("no image")
    with pytest.raises(ValueError, match=r"'.*notes\.png' cannot be read as an image"):
        read_image(file)
