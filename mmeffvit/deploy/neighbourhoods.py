"""Neighbourhood attention in an ONNX file: tiles whose sizes are computed in the graph.

In the program that is exported it is one node, as kernels and dilations may follow from the size of
the image. Here that becomes the tiles of `mmeffvit/ops/neighbourhood_attention/tiled.py`, with the
letters that are used there. Rows of tiles come one after the other, so that logits of one row of
tiles are held at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_DOMAIN, _AXIS, _ATTENTION, _BIASED = "mmeffvit", "Axis", "Attention", "BiasedAttention"
_TILE = 8

# keys of an axis, queries of it, kernel and dilation, as scalars, to the tensors of `_Axis` there
_AXIS_TEXT = f"""
<domain: "{_DOMAIN}", opset_import: ["" : 18]>
{_AXIS} (length, count, kernel, dilation) => (queries, keys, allowed, relative, places) {{
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    two = Constant <value_int = 2> ()
    side = Constant <value_int = {_TILE}> ()
    flat = Constant <value_ints = [-1]> ()
    before = Sub (dilation, one)
    beyond = Sub (side, one)
    filled = Add (count, before)
    of_phase = Div (filled, dilation)
    more = Add (of_phase, beyond)
    tiles = Div (more, side)

    phase_range = Range (zero, dilation, one)
    of_phases = Constant <value_ints = [-1, 1, 1, 1]> ()
    phase = Reshape (phase_range, of_phases)
    tile_range = Range (zero, tiles, one)
    of_tiles = Constant <value_ints = [1, -1, 1, 1]> ()
    tile = Reshape (tile_range, of_tiles)
    query_range = Range (zero, side, one)
    of_queries = Constant <value_ints = [1, 1, -1, 1]> ()
    query = Reshape (query_range, of_queries)
    window = Add (kernel, beyond)
    key_range = Range (zero, window, one)
    of_keys = Constant <value_ints = [1, 1, 1, -1]> ()
    key_of_window = Reshape (key_range, of_keys)

    left = Sub (length, phase)
    left_filled = Add (left, before)
    phase_length = Div (left_filled, dilation)
    last_window = Sub (phase_length, kernel)
    start = Mul (tile, side)
    rank = Add (start, query)
    kernel_less = Sub (kernel, one)
    half = Div (kernel_less, two)
    centred = Sub (rank, half)
    inside = Max (centred, zero)
    first = Min (inside, last_window)
    of_query = Constant <value_ints = [2]> ()
    from_first = Constant <value_ints = [0]> ()
    to_second = Constant <value_ints = [1]> ()
    first_of_tile = Slice (first, from_first, to_second, of_query)
    key = Add (first_of_tile, key_of_window)
    last = Add (first, kernel)
    not_before = GreaterOrEqual (key, first)
    not_behind = Less (key, last)
    among = And (not_before, not_behind)
    side_1 = Reshape (side, flat)
    window_1 = Reshape (window, flat)
    together = Concat <axis = 0> (flat, side_1, window_1)
    allowed = Reshape (among, together)
    distance = Sub (key, rank)
    shifted = Add (distance, kernel_less)
    twice = Mul (kernel_less, two)
    not_negative = Max (shifted, zero)
    in_table = Min (not_negative, twice)
    relative = Reshape (in_table, together)

    far = Mul (rank, dilation)
    at = Add (far, phase)
    last_query = Sub (count, one)
    existing = Min (at, last_query)
    queries = Reshape (existing, flat)
    key_far = Mul (key, dilation)
    key_at = Add (key_far, phase)
    last_key = Sub (length, one)
    existing_key = Min (key_at, last_key)
    keys = Reshape (existing_key, flat)

    position = Range (zero, count, one)
    own_rank = Div (position, dilation)
    own_tile = Div (own_rank, side)
    before_it = Mul (own_rank, dilation)
    own_phase = Sub (position, before_it)
    phase_tiles = Mul (own_phase, tiles)
    number = Add (phase_tiles, own_tile)
    to_tile = Mul (number, side)
    to_own_tile = Mul (own_tile, side)
    within = Sub (own_rank, to_own_tile)
    places = Add (to_tile, within)
}}
"""

_TABLE_LINES = """by_head = Concat <axis = 0> (heads, flat)
    table = Reshape (bias, by_head)
    line = Shape <start = 2, end = 3> (bias)"""
_BIAS_LINES = """r_near = Gather (r_relative, i)
        r_place = Unsqueeze (r_near, between_rows)
        r_line = Mul (r_place, line)
        c_place = Unsqueeze (c_relative, between_columns)
        place = Add (r_line, c_place)
        added = Gather <axis = 1> (table, place)
        of_tiles = Reshape (added, tile_of_bias)
        logits = Add (products, of_tiles)"""


def _attention_text(name: str, biased: bool) -> str:
    """(B, H, W, h, d) queries that are scaled, keys and values, (2,) kernel and dilation, bias."""
    bias = ", bias" if biased else ""
    return f"""
<domain: "{_DOMAIN}", opset_import: ["" : 18, "{_DOMAIN}" : 1]>
{name} (q, k, v, kernel, dilation{bias}) => (out) {{
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    two = Constant <value_int = 2> ()
    flat = Constant <value_ints = [-1]> ()
    side = Constant <value_ints = [{_TILE}]> ()
    true = Constant <value = bool {{1}}> ()
    infinite = Constant <value_float = -3.4028234e38> ()
    size = Shape (q)
    key_size = Shape (k)
    samples = Shape <start = 0, end = 1> (q)
    heads = Shape <start = 3, end = 4> (q)
    channels = Shape <start = 4, end = 5> (q)
    height = Gather (size, one)
    width = Gather (size, two)
    key_height = Gather (key_size, one)
    key_width = Gather (key_size, two)
    rows_of_kernel = Gather (kernel, zero)
    columns_of_kernel = Gather (kernel, one)
    rows_apart = Gather (dilation, zero)
    columns_apart = Gather (dilation, one)
    r_queries, r_keys, r_allowed, r_relative, r_places =
        {_DOMAIN}.{_AXIS} (key_height, height, rows_of_kernel, rows_apart)
    c_queries, c_keys, c_allowed, c_relative, c_places =
        {_DOMAIN}.{_AXIS} (key_width, width, columns_of_kernel, columns_apart)

    r_window = Shape <start = 2, end = 3> (r_allowed)
    c_window = Shape <start = 2, end = 3> (c_allowed)
    r_tiles = Shape <start = 0, end = 1> (r_allowed)
    c_tiles = Shape <start = 0, end = 1> (c_allowed)
    query_columns = Concat <axis = 0> (samples, flat, c_tiles, side, heads, channels)
    key_columns = Concat <axis = 0> (samples, flat, c_tiles, c_window, heads, channels)
    q_wide = Gather <axis = 2> (q, c_queries)
    k_wide = Gather <axis = 2> (k, c_keys)
    v_wide = Gather <axis = 2> (v, c_keys)
    q_tiles = Reshape (q_wide, query_columns)
    k_strips = Reshape (k_wide, key_columns)
    v_strips = Reshape (v_wide, key_columns)
    q_strips = Transpose <perm = [0, 4, 2, 1, 3, 5]> (q_tiles)
    keys = Transpose <perm = [0, 4, 2, 1, 3, 5]> (k_strips)
    values = Transpose <perm = [0, 4, 2, 1, 3, 5]> (v_strips)

    r_query_shape = Concat <axis = 0> (r_tiles, side)
    r_key_shape = Concat <axis = 0> (r_tiles, r_window)
    queries_of_rows = Reshape (r_queries, r_query_shape)
    keys_of_rows = Reshape (r_keys, r_key_shape)
    tile_of_queries = Concat <axis = 0> (samples, heads, c_tiles, flat, channels)
    tile_of_results = Concat <axis = 0> (samples, heads, c_tiles, side, side, channels)
    num_queries = Mul (side, side)
    num_keys = Mul (r_window, c_window)
    tile_of_mask = Concat <axis = 0> (c_tiles, num_queries, num_keys)
    tile_of_bias = Concat <axis = 0> (heads, c_tiles, num_queries, num_keys)
    between_columns = Constant <value_ints = [1, 3]> ()
    between_rows = Constant <value_ints = [0, 2, 4]> ()
    c_among = Unsqueeze (c_allowed, between_columns)
    count = Squeeze (r_tiles)
    {_TABLE_LINES if biased else ""}
    rows = Loop (count, true) <body = row (int64 i, bool go) => (bool on, float[] piece) {{
        on = Identity (go)
        query_rows = Gather (queries_of_rows, i)
        key_rows = Gather (keys_of_rows, i)
        q_row = Gather <axis = 3> (q_strips, query_rows)
        k_row = Gather <axis = 3> (keys, key_rows)
        v_row = Gather <axis = 3> (values, key_rows)
        q_here = Reshape (q_row, tile_of_queries)
        k_here = Reshape (k_row, tile_of_queries)
        v_here = Reshape (v_row, tile_of_queries)
        k_turned = Transpose <perm = [0, 1, 2, 4, 3]> (k_here)
        products = MatMul (q_here, k_turned)
        r_among = Gather (r_allowed, i)
        r_spread = Unsqueeze (r_among, between_rows)
        both = And (r_spread, c_among)
        mask = Reshape (both, tile_of_mask)
        {_BIAS_LINES if biased else "logits = Identity (products)"}
        kept = Where (mask, logits, infinite)
        weights = Softmax <axis = -1> (kept)
        attended = MatMul (weights, v_here)
        piece = Reshape (attended, tile_of_results)
    }}>
    in_order = Transpose <perm = [1, 0, 4, 3, 5, 2, 6]> (rows)
    r_all = Mul (r_tiles, side)
    c_all = Mul (c_tiles, side)
    map_shape = Concat <axis = 0> (samples, r_all, c_all, heads, channels)
    whole = Reshape (in_order, map_shape)
    of_rows = Gather <axis = 1> (whole, r_places)
    out = Gather <axis = 2> (of_rows, c_places)
}}
"""


def translate(q, k, v, bias, kernel: Sequence[int], dilation: Sequence[int], scale: float):
    """The node of a program as a call of a function that `expand` knows; for the exporter."""
    from onnxscript import opset18 as op

    def vector(numbers):
        flat = op.Constant(value_ints=[-1])
        return op.Concat(
            *(
                op.Constant(value_ints=[number])
                if isinstance(number, int)
                else op.Reshape(number, flat)
                for number in numbers
            ),
            axis=0,
        )

    scaled = op.Mul(q, op.Constant(value_float=scale))
    arguments = (scaled, k, v, vector(kernel), vector(dilation))
    out = _call(_ATTENTION, *arguments) if bias is None else _call(_BIASED, *arguments, bias)
    # the second result is for the backward pass, and nothing of a file reads it
    return out, op.Identity(out)


def _call(name: str, *arguments):
    from onnx.defs import OpSchema
    from onnxscript.values import Op, Opset

    inputs = [
        OpSchema.FormalParameter(f"input_{i}", "tensor(int64)" if i in (3, 4) else "tensor(float)")
        for i in range(len(arguments))
    ]
    outputs = [OpSchema.FormalParameter("out", "tensor(float)")]
    schema = OpSchema(name, _DOMAIN, 1, inputs=inputs, outputs=outputs)
    return Op(Opset(_DOMAIN, 1), name, schema)(*arguments)


@functools.cache
def _functions() -> tuple[onnx.FunctionProto, ...]:
    from onnx import parser

    texts = _AXIS_TEXT, _attention_text(_ATTENTION, False), _attention_text(_BIASED, True)
    return tuple(parser.parse_function(text) for text in texts)


def expand(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with plain operators in place of what `translate` left; itself if there is none."""
    from onnx import inliner

    if all(node.domain != _DOMAIN for node in model.graph.node):
        return model
    model.functions.extend(_functions())
    if all(entry.domain != _DOMAIN for entry in model.opset_import):
        model.opset_import.add(domain=_DOMAIN, version=1)
    whole = inliner.inline_local_functions(model)
    for entry in [entry for entry in whole.opset_import if entry.domain == _DOMAIN]:
        whole.opset_import.remove(entry)
    return whole
