"""Capture: the level of the graph, aliasing, mutation, symbols, provenance, and both doors."""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from rooftile.errors import UnsupportedError
from rooftile.frontend.capture import capture
from rooftile.frontend.captured import FromInput, FromResult, ViewOf
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.frontend.provenance import loc_of, model_path
from tests.frontend.captures import Recorder, distance, run
from tests.models import BLOCKS
from tests.versions import FAST_PATH


def targets(recorder: Recorder) -> list[str]:
    (captured,) = recorder.captured
    return [str(n.target).removeprefix("aten.") for n in captured.module.graph.nodes if n.op == "call_function"]


def compiled(function: Callable[..., Any], **options: Any) -> tuple[Callable[..., Any], Recorder]:
    torch._dynamo.reset()
    recorder = Recorder()
    return torch.compile(function, backend=recorder, fullgraph=True, **options), recorder


def test_ops_stay_whole() -> None:
    def layer(x: Tensor, w: Tensor) -> Tensor:
        y = F.layer_norm(F.linear(x, w), (8,))
        y = F.scaled_dot_product_attention(y[None], y[None], y[None])[0]
        return F.rms_norm(F.silu(y).softmax(-1), (8,)) + F.gelu(y)

    _, _, recorder = run(layer, torch.randn(4, 8), torch.randn(8, 8))
    whole = {"linear", "layer_norm", "scaled_dot_product_attention", "silu", "rms_norm", "gelu"}
    assert whole <= {t.removesuffix(".default") for t in targets(recorder)}
    assert "softmax.int" in targets(recorder)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_one_graph_without_externs(name: str) -> None:
    module, inputs = BLOCKS[name]()
    with torch.no_grad():
        want = module(*inputs)
        got, truth, recorder = run(module, *inputs)
    assert len(recorder.imported) == 1 and not recorder.externs
    assert distance(got, truth) <= 1.1 * distance(want, truth) + 4e-7


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=FAST_PATH) if name.startswith("encoder") else name for name in BLOCKS],
)
def test_a_block_of_symbolic_sizes_serves_other_sizes(name: str) -> None:
    module, inputs = BLOCKS[name]()
    _, larger = BLOCKS[name](batch=3, **({"image": 16} if name == "vit" else {"length": 33}))
    fast, recorder = compiled(module, dynamic=True)
    with torch.no_grad():
        for given in (inputs, larger):
            assert torch.allclose(fast(*given), module(*given), atol=2e-5)
    assert len(recorder.imported) == 1 and not recorder.externs


def test_exported_programs_come_in_by_the_same_importer() -> None:
    module, (x,) = BLOCKS["llama"]()
    with torch.no_grad():
        program = torch.export.export(module, (x,), dynamic_shapes={"x": {1: torch.export.Dim("n", min=2, max=64)}})
    captured = capture_exported(program)
    graph = import_captured(captured).graph
    assert not any(op.name == "extern" for op in graph.ops)
    assert next(i.name for i in captured.inputs if i.kind == "parameter") == "layer.self_attn.q_proj.weight"
    assert captured.inputs[-1].value is None and all(i.value is not None for i in captured.inputs[:-1])
    assert len(captured.symbols) == 1 and captured.symbols[0].dim == 1


def test_kinds_and_names_of_inputs() -> None:
    layer = nn.BatchNorm1d(4).eval()
    _, _, recorder = run(layer, torch.randn(3, 4))
    (captured,) = recorder.captured
    found = {i.name: i.kind for i in captured.inputs}
    assert (
        found["weight"] == "parameter"
        and found["running_mean"] == "buffer"
        and list(found.values()).count("input") == 1
    )


def test_writes_to_inputs_happen() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))
            self.register_buffer("cache", torch.zeros(2, 6, 4))

        def forward(self, x: Tensor, at: Tensor) -> Tensor:
            self.seen += 1
            self.cache.index_copy_(1, at, x)
            self.cache[:, 0] = 7
            return self.cache * 2 + self.seen

    plain, module = Counter(), Counter()
    fast, recorder = compiled(module)
    for start in (1, 3):
        x, at = torch.randn(2, 2, 4), torch.arange(start, start + 2)
        assert torch.equal(fast(x, at), plain(x, at))
    assert torch.equal(module.cache, plain.cache) and module.seen == plain.seen == 2
    assert len(recorder.captured[0].mutations) == 2


def test_an_op_of_many_that_writes_to_its_operand_does() -> None:
    plain, module = (nn.InstanceNorm1d(4, track_running_stats=True) for _ in range(2))
    fast, recorder = compiled(module)
    for _ in range(2):
        x = torch.randn(2, 4, 6) * 3 + 1
        torch.testing.assert_close(fast(x), plain(x))
    torch.testing.assert_close(module.state_dict(), plain.state_dict())
    assert not recorder.externs


@pytest.mark.parametrize("training", [False, True])
def test_what_dropout_returns_may_be_written_to(training: bool) -> None:
    def masked(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = x + 1
        y = F.dropout(x, 0.5, training)
        y *= mask
        return x, y

    x, mask = torch.randn(4, 8), torch.tensor([1.0, 0.0] * 4)
    (x_after, y), _, recorder = run(masked, x, mask)
    if training:
        assert torch.equal(x_after, x + 1) and len(recorder.externs) == 1
        kept = y != 0
        torch.testing.assert_close(y[kept], 2 * x_after[kept])
        assert not kept[:, 1::2].any()
    else:
        torch.testing.assert_close((x_after, y), masked(x, mask))
        assert not recorder.externs


def test_outputs_that_share_memory_still_do() -> None:
    def views(x: Tensor) -> Any:
        y = x * 2
        return y, y[0], y.t(), x.view(-1), x, (x + 1).chunk(2, -1)

    x = torch.randn(4, 6)
    fast, recorder = compiled(views)
    whole, first, turned, flat, same, (left, right) = fast(x)
    assert same is x and flat.data_ptr() == x.data_ptr()
    whole.zero_()
    assert first.abs().sum() == 0 and turned.abs().sum() == 0
    assert right.untyped_storage().data_ptr() == left.untyped_storage().data_ptr() and right.storage_offset() == 3
    kinds = [type(o) for o in recorder.captured[0].outputs]
    assert kinds.count(FromResult) == 1 and kinds.count(ViewOf) >= 4 and len(recorder.captured[0].results) == 2
    assert FromInput not in kinds or kinds.count(FromInput) == 1


def test_a_written_input_that_is_returned_is_the_input() -> None:
    def add(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        row = x[1]
        x.add_(y)
        return row, x.mul_(2)

    x, y = torch.randn(3, 4), torch.randn(3, 4)
    want_row, want = add(x.clone(), y)
    row, out = compiled(add)[0](x, y)
    assert out.data_ptr() == x.data_ptr() and torch.equal(x, want) and torch.equal(row, want_row)
    assert row.data_ptr() == x[1].data_ptr()


@pytest.mark.parametrize(
    "write",
    [
        lambda x: [x.t().mul_(2), x[1:], x.unfold(1, 2, 2)],
        lambda x: [x[:, ::2].add_(1), x, x.t()],
        lambda x: [x.unflatten(1, (2, 2))[:, 0].zero_(), x.unflatten(1, (2, 2)), *x.mul_(2).split(2, 1)],
    ],
)
@pytest.mark.parametrize("lay", [lambda x: x, lambda x: x.t().contiguous().t(), lambda x: x.repeat(1, 2)[:, ::2]])
def test_views_of_a_written_input_are_views_of_it(
    write: Callable[[Tensor], list[Tensor]], lay: Callable[[Tensor], Tensor]
) -> None:
    start = torch.randn(3, 4)
    x, plain = lay(start.clone()), lay(start.clone())
    got, want = compiled(write)[0](x), write(plain)
    assert torch.equal(x, plain)
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b) and a.stride() == b.stride()
        assert a.data_ptr() - x.data_ptr() == b.data_ptr() - plain.data_ptr()


@pytest.mark.parametrize(
    "look",
    [
        lambda x: torch.einsum("bii->bi", x),
        lambda x: torch.einsum("bij->jbi", x),
        lambda x: torch.broadcast_tensors(x, x[:1])[0],
        lambda x: torch.meshgrid(x[0, 0], x[0, 1], indexing="ij")[0],
        lambda x: x.sum_to_size(2, 3, 3),
        lambda x: torch.atleast_2d(x, x[0, 0])[1],
        lambda x: F.dropout(x, 0.0, True),
    ],
)
def test_an_op_of_many_that_gives_a_view_gives_a_view(look: Callable[[Tensor], Tensor]) -> None:
    """Writing to what it gives writes to what it was given, be that an input or not."""

    def both(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = x * 2
        look(y).select(-1, 0).fill_(1)
        return y, look(y), look(x)

    def write(x: Tensor) -> None:
        look(x).select(-1, 0).fill_(3)

    x = torch.randn(2, 3, 3)
    plain = x.clone()
    (y, of_y, of_x), want = compiled(both)[0](x), both(plain)
    torch.testing.assert_close((y, of_y, of_x), want, check_stride=True)
    assert of_y.data_ptr() - y.data_ptr() == want[1].data_ptr() - want[0].data_ptr()
    assert of_x.data_ptr() - x.data_ptr() == want[2].data_ptr() - plain.data_ptr()
    compiled(write)[0](x)
    write(plain)
    assert torch.equal(x, plain)


def test_written_inputs_that_overlap_others_run_in_the_original_order() -> None:
    def shift(x: Tensor, y: Tensor) -> Tensor:
        x.mul_(2)
        return x + y

    base, plain = torch.arange(8.0), torch.arange(8.0)
    want = shift(plain[1:], plain[:-1].clone()), plain
    fast = compiled(shift)[0]
    fast(torch.randn(7), torch.randn(7))
    got = fast(base[1:], base[:-1])
    plain = torch.arange(8.0)
    assert torch.equal(got, shift(plain[1:], plain[:-1])) and torch.equal(base, plain)
    assert want[0].shape == got.shape


def test_layouts_of_outputs_are_eagers() -> None:
    x = torch.randn(2, 3, 4)
    for got, want in zip(run(lambda t: ((t + 1).transpose(1, 2), t.mT * 2), x)[0], (x.mT, x.mT), strict=True):
        assert got.stride() == want.stride()


def test_what_is_written_through_a_view_keeps_its_layout() -> None:
    def filled(x: Tensor) -> tuple[Tensor, Tensor]:
        y, z = torch.empty(2, 3, 4), x.t() * 2
        y[...] = x
        y.transpose(1, 2).relu_()
        z.t().add_(1)
        return y, z

    x = torch.randn(3, 4)
    torch.testing.assert_close(run(filled, x)[0], filled(x), check_stride=True)


def test_inputs_that_are_not_contiguous() -> None:
    x = torch.randn(6, 4, 5).transpose(0, 2)[:, ::2]
    got, _, recorder = run(lambda t: t.softmax(-1) + t[0], x)
    assert torch.allclose(got, x.softmax(-1) + x[0])
    assert recorder.imported[0].graph.inputs[0].type.strides == x.stride()


def test_metadata_written_in_place_is_refused() -> None:
    def turn(x: Tensor) -> Tensor:
        x.t_()
        return x * 2

    mode = FakeTensorMode()
    with pytest.raises(UnsupportedError, match="changes the metadata of its input number 0"):
        capture(fx.symbolic_trace(turn), [mode.from_tensor(torch.randn(3, 4))], mode, ["x"], ["input"])


def test_sizes_that_are_outputs_or_values() -> None:
    fast, recorder = compiled(lambda x: (x.reshape(-1), x.shape[0] * x.shape[1], x * x.shape[0]), dynamic=True)
    for shape in ((3, 4), (5, 6)):
        x = torch.randn(shape)
        flat, count, scaled = fast(x)
        assert torch.equal(flat, x.reshape(-1)) and count == x.numel() and torch.equal(scaled, x * shape[0])
    assert len(recorder.imported) == 1


def least(x: Tensor, y: Tensor) -> tuple[Tensor, int]:
    rows = min(x.shape[0], y.shape[0])
    return x[:rows] + y[:rows], rows


def test_which_of_two_sizes_is_the_lesser_is_a_guard() -> None:
    fast, recorder = compiled(least, dynamic=True)
    for rows in ((9, 3), (8, 5), (3, 9), (5, 6)):
        x, y = (torch.randn(n, 4) for n in rows)
        torch.testing.assert_close(fast(x, y), least(x, y))
    assert len(recorder.imported) == 2 and not recorder.externs


def test_which_of_two_sizes_is_the_lesser_is_no_guard_of_an_exported_program() -> None:
    class Least(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return least(x, y)[0]

    sizes = {name: {0: torch.export.Dim.DYNAMIC} for name in "xy"}
    program = torch.export.export(Least(), (torch.randn(9, 4), torch.randn(3, 4)), dynamic_shapes=sizes)
    with pytest.raises(UnsupportedError, match="depends on the call"):
        import_captured(capture_exported(program))


def test_sizes_of_parts_add_up_to_a_whole_that_is_a_number() -> None:
    def each(x: Tensor, w: Tensor, first: int, rest: int) -> Tensor:
        parts = x.split([first, rest])
        return torch.cat([part @ own for part, own in zip(parts, w, strict=True)]) + x

    x, w = torch.randn(12, 4), torch.randn(2, 4, 4)
    fast, recorder = compiled(each)
    for first in (5, 7, 3, 11):
        torch.testing.assert_close(fast(x, w, first, 12 - first), each(x, w, first, 12 - first))
    assert "size" in {given.kind for given in recorder.captured[-1].inputs} and not recorder.externs


def test_halves_of_a_run_time_size_are_known_to_be_alike() -> None:
    def gated(x: Tensor) -> Tensor:
        gate, value = x.chunk(2, -1)
        return F.silu(gate) * value + value.flip(-1)

    fast, recorder = compiled(gated, dynamic=True)
    for width in (6, 8, 14):
        x = torch.randn(3, width)
        torch.testing.assert_close(fast(x), gated(x))
    assert len(recorder.imported) == 1 and not recorder.externs


@pytest.mark.parametrize(
    "regroup",
    [
        lambda x: x.view(x.shape[0], x.shape[1] // 4, 4, 8).sum(2),
        lambda x: x.view(4, -1, 4, 8).softmax(2).flatten(1, 2),
        lambda x: x.reshape(len(x), -1, 2, 2, 8).transpose(2, 3).reshape(len(x), x.shape[1] // 4, 32),
        lambda x: x.view(len(x) // 2, 2, x.shape[1] // 4, 4, 8).transpose(1, 2).amax((2, 3)),
        lambda x: F.pad(x, (0, 0, 0, (1 - x.shape[1]) % 4)).view(4, -1, 8).amax(1),
        lambda x: x[:, : x.shape[1] - x.shape[1] % 5].unflatten(1, (-1, 5)).sum(2),
    ],
)
def test_run_time_sizes_that_are_multiples_are_known_to_be(regroup: Callable[[Tensor], Tensor]) -> None:
    weight = nn.Parameter(torch.randn(8))

    def scaled(x: Tensor) -> Tensor:
        return regroup(x * weight)

    fast, recorder = compiled(scaled, dynamic=True)
    for length in (12, 24, 48):
        x = torch.randn(4, length, 8)
        torch.testing.assert_close(fast(x), scaled(x))
    assert len(recorder.imported) == 1 and not recorder.externs


def test_floats_of_the_module_are_constants_even_where_everything_is_dynamic() -> None:
    norm = nn.LayerNorm(8)
    _, _, recorder = run(norm, torch.randn(3, 8), dynamic=True)
    assert sorted(i.kind for i in recorder.captured[-1].inputs if i.kind != "size") == [
        "input",
        "parameter",
        "parameter",
    ]


@pytest.mark.parametrize("form", ["padding", "mask", "both", "none"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_torchs_fused_encoder_layer_is_taken_apart(form: str, norm_first: bool) -> None:
    module, (x,) = BLOCKS["encoder"](norm_first=norm_first)
    masks: dict[str, Tensor] = {}
    if form in ("padding", "both"):
        masks["src_key_padding_mask"] = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
    if form in ("mask", "both"):
        masks["src_mask"] = torch.ones(7, 7, dtype=torch.bool).triu(1)
    with torch.no_grad():
        want = module(x, **masks)
        fast, recorder = compiled(module)
        assert torch.allclose(fast(x, **masks), want, atol=1e-5)
    assert not recorder.externs


def test_torchs_fused_attention_module_is_taken_apart() -> None:
    module = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        fast, recorder = compiled(lambda t: module(t, t, t))
        for got, want in zip(fast(x), module(x, x, x), strict=True):
            assert torch.allclose(got, want, atol=1e-6)
    assert not recorder.externs


def test_where_an_op_comes_from() -> None:
    module, inputs = BLOCKS["textbook"]()
    _, _, recorder = run(module, *inputs)
    (captured,) = recorder.captured
    (softmax,) = [n for n in captured.module.graph.nodes if str(n.target) == "aten.softmax.int"]
    loc = loc_of(softmax)
    assert loc.module == "attention" and loc.file.endswith("tests/models.py")
    assert "F.softmax(scores, dim=-1)" in linecache.getline(loc.file, loc.line)
    exps = [op for op in recorder.imported[0].graph.ops if op.attrs.get("fn") == "exp"]
    assert [op.loc for op in exps] == [loc]


def test_a_file_name_that_is_no_text_can_be_written_down() -> None:
    node = fx.Graph().placeholder("x")
    file = os.fsdecode(b"/b\xf6d.py")
    node.meta["stack_trace"] = f'  File "{file}", line 3, in f\n    return x\n'
    assert loc_of(node).source == "/b?d.py:3"


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("L['self']._modules['layers']._modules['0']._parameters['weight']", "layers.0.weight"),
        ("L['self'].layers[0].attn", "layers.0.attn"),
        ("L['x']", "x"),
        ("layers.0.attn", "layers.0.attn"),
    ],
)
def test_paths_in_the_model(source: str, path: str) -> None:
    assert model_path(source) == path
