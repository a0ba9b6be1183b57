"""What the evaluator promises beyond Triton's interpreter: narrow floats, NaN, and refusals like the compiler's."""

from __future__ import annotations

import textwrap

import pytest
import torch

from rooftile.runtime.interpreter.program import Interpreted, KernelError

HEADER = (
    "import triton\nimport triton.language as tl\n\n\n@triton.jit\ndef kernel(x, y, out):\n    i = tl.arange(0, 16)\n"
)


def run(body: str, x: torch.Tensor, y: torch.Tensor | None = None, out: torch.dtype = torch.float32) -> torch.Tensor:
    """What ``body`` writes to ``out[0..16)``."""
    result = torch.zeros(16, dtype=out)
    Interpreted("kernel", HEADER + textwrap.indent(body, "    ")).run((1,), [x, x if y is None else y, result])
    return result


def edges(dtype: torch.dtype) -> torch.Tensor:
    """fp32 values that are hard to round to ``dtype``: halfway cases, the ends of the range, infinities, NaN."""
    info = torch.finfo(dtype)
    one = torch.tensor([1.0, 1 + info.eps, 1 + 2 * info.eps], dtype=torch.float64)
    halves = (one[:-1] + one[1:]) / 2
    near = torch.cat([halves, torch.nextafter(halves.float(), torch.tensor(9.0)).double()])
    ends = torch.tensor([info.tiny, info.tiny / 2, info.max, 0.1, 3.14159], dtype=torch.float64)
    return torch.cat([near, -near, ends, torch.tensor([-0.0, float("inf"), float("nan")])]).float()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_floats_round_to_nearest_even(dtype: torch.dtype) -> None:
    x = edges(dtype)
    assert x.numel() == 16
    got = run("tl.store(out + i, tl.load(x + i))", x, out=dtype)
    torch.testing.assert_close(got, x.to(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_rounds_to_nearest_and_saturates(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    x = torch.randn(16, generator=torch.Generator().manual_seed(0)) * 10
    x[:3] = torch.tensor([largest * 4, -largest * 4, float("inf")])
    got = run("tl.store(out + i, tl.load(x + i))", x, out=dtype).float()
    assert got[:3].tolist() == [largest, -largest, largest]
    assert torch.equal(got[3:], x[3:].to(dtype).float())
    assert torch.equal(run("tl.store(out + i, tl.load(x + i))", x.to(dtype))[3:], got[3:])


def test_bf16_arithmetic_rounds_after_every_operation() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(16, generator=generator).bfloat16() for _ in range(2))
    got = run("a = tl.load(x + i)\nb = tl.load(y + i)\ntl.store(out + i, a * b + a - 0.1)", a, b, out=torch.bfloat16)
    assert torch.equal(got, a * b + a - torch.tensor(0.1).bfloat16())


def test_bf16_maximum_is_fp32_as_in_triton() -> None:
    a = torch.ones(16).bfloat16()
    body = "m = tl.maximum(tl.load(x + i), 0.0)\ntl.static_assert(m.dtype == tl.float32)\ntl.store(out + i, m)"
    assert torch.equal(run(body, a), torch.ones(16))


def test_reductions_drop_nan_as_a_gpu_does() -> None:
    x = torch.arange(16.0)
    x[3] = float("nan")
    assert run("tl.store(out, tl.max(tl.load(x + i), axis=0))", x)[0] == 15
    assert run("tl.store(out, tl.maximum(tl.load(x + 3), 2.0))", x)[0] == 2
    assert run("tl.store(out, tl.sum(tl.load(x + i), axis=0))", x)[0].isnan()
    assert run("tl.store(out, tl.argmax(tl.load(x + i), axis=0))", x)[0] == 15


def test_pythons_min_and_max_are_tritons() -> None:
    x = torch.arange(16.0)
    got = run("a = tl.load(x + i)\ntl.store(out + i, min(a, 3.0) + max(a, 9.0))", x)
    assert torch.equal(got, x.clamp(max=3) + x.clamp(min=9))


def test_a_masked_load_without_other_is_not_a_number() -> None:
    got = run("tl.store(out + i, tl.load(x + i, mask=i < 4))", torch.ones(4))
    assert torch.equal(got.isnan(), torch.arange(16) >= 4)


def test_nothing_is_read_where_the_mask_is_false() -> None:
    got = run("tl.store(out + i, tl.load(x + i * 1000000, mask=i < 1, other=5.0))", torch.ones(1))
    assert got.tolist() == [1.0] + [5.0] * 15


def test_functions_call_each_other() -> None:
    helper = "@triton.jit\ndef twice(v):\n    two = 2\n    return v * two\n\n\n"
    source = HEADER.replace("@triton.jit", helper + "@triton.jit") + "    tl.store(out + i, twice(tl.load(x + i)))\n"
    out = torch.zeros(16)
    Interpreted("kernel", source).run((1,), [torch.ones(16), torch.ones(16), out])
    assert torch.equal(out, torch.full((16,), 2.0))


def test_libdevice() -> None:
    x = torch.linspace(-2, 2, 16)
    source = HEADER.replace("@triton.jit", "from triton.language.extra import libdevice\n\n\n@triton.jit", 1)
    out = torch.zeros(16)
    body = "    a = tl.load(x + i)\n    tl.store(out + i, libdevice.tanh(a) + libdevice.pow(tl.abs(a), 1.5))\n"
    Interpreted("kernel", source + body).run((1,), [x, x, out])
    torch.testing.assert_close(out, x.tanh() + x.abs().pow(1.5))


def test_programs_see_their_ids_and_the_grid() -> None:
    source = (
        "import triton\nimport triton.language as tl\n\n\n@triton.jit\ndef ids(out):\n"
        "    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)\n"
        "    at = (z * tl.num_programs(1) + y) * tl.num_programs(0) + x\n"
        "    tl.store(out + at, x * 100 + y * 10 + z)\n"
    )
    out = torch.full((2 * 3 * 4,), -1, dtype=torch.int32)
    Interpreted("ids", source).run((4, 3, 2), [out])
    expected = [x * 100 + y * 10 + z for z in range(2) for y in range(3) for x in range(4)]
    assert out.tolist() == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("tl.exp(tl.load(x + i).to(tl.bfloat16))", "`exp` takes fp32, fp64, not bf16"),
        ("tl.arange(0, 10)", "powers of two"),
        ("n = 16\ntl.arange(0, n)", "known at compile time"),
        ("if tl.load(x + i) > 0:\n    tl.store(out, 1.0)", "no truth value"),
        ("tl.load(x + i)[0]", "indexed by `:` and `None` only"),
        ("tl.load(x + i, other=1.0)", "`other` needs a `mask`"),
        ("tl.store(out, tl.load(x + i))", "stored through one pointer"),
        ("tl.load(x + 0.5)", "moves by integers"),
        ("tl.load(x + i) & 1", "takes integers"),
        ("tl.load(x - 1)", "element -1 of `x`"),
        ("tl.store(out + i + 1, 0.0)", "element 16 of `out`"),
        ("a = tl.load(x + i)[:, None]\ntl.dot(a, a)", "contracted sizes differ"),
        ("tl.device_assert(i < 3, 'too far')", "too far"),
        ("tl.make_tensor_descriptor(x, [4, 4], [3, 1], [4, 4])", "multiples of 16 bytes"),
        ("tl.make_tensor_descriptor(x, [8, 4], [4, 1], [4, 4])", "reaches elements 0 to 31 of `x`"),
    ],
)
def test_refusals_name_the_line(body: str, message: str) -> None:
    with pytest.raises(KernelError) as error:
        run(body, torch.ones(16))
    assert message in str(error.value)
    assert "of the kernel" in error.value.where


def test_a_type_that_kernels_do_not_take() -> None:
    with pytest.raises(TypeError, match=r"`x`: kernels do not take torch\.complex64"):
        run("pass", torch.ones(16, dtype=torch.complex64))
