"""Small kernels over the Triton language, each run by our evaluator, by Triton's own, and by Triton's compiler.

Every kernel reads ``x`` (fp32[128]) and ``n`` (int32[128], of both signs), and writes ``out`` (fp32[128]) and ``whole``
(int32[128]); ``i`` is ``tl.arange(0, 128)``, ``a`` and ``k`` are ``x`` and ``n`` loaded.
"""

from __future__ import annotations

import sys
import textwrap

import torch

from rooftile.codegen.kernel import Kernel, KernelParam

SIZE = 128
FUNCTIONS = """import triton
import triton.language as tl


@triton.jit
def later(a, i, b, j):
    take = (b > a) | ((b == a) & (j > i))
    return tl.where(take, b, a), tl.where(take, j, i)


@triton.jit
def decayed(a, x, b, y):
    return a * b, x * b + y


@triton.jit
def kernel(x, n, out, whole):
    i = tl.arange(0, 128)
    a = tl.load(x + i)
    k = tl.load(n + i)
"""

BODIES = {
    "promotion": "tl.store(out + i, a * 2 + k - 1); tl.store(whole + i, (k * 3 + (a > 0)).to(tl.int32))",
    "integer_division_is_true": "tl.store(out + i, k / 3 + 1 / (k * k + 1))",
    "floor_division_rounds_to_zero": "tl.store(whole + i, k // 7 + (k % 7) * 100 + (k - 3) // -5)",
    "shifts_and_bits": "tl.store(whole + i, ((k >> 2) & 0xFF) ^ (k << 3) | ~k)",
    "unsigned_shift": "tl.store(whole + i, (k.to(tl.uint32, bitcast=True) >> 28).to(tl.int32))",
    "bitcast": (
        "tl.store(whole + i, a.to(tl.int32, bitcast=True)); "
        "tl.store(out + i, (k + 0x3F800000).to(tl.float32, bitcast=True))"
    ),
    "float_to_integer": (
        "tl.store(whole + i, (a * 1000).to(tl.int32)); tl.store(out + i, (a * 20).to(tl.int8).to(tl.float32))"
    ),
    "integer_wraps": "tl.store(whole + i, k * 100000 * 100000)",
    "narrow_integers_wrap": "tl.store(whole + i, (k.to(tl.int8) * k.to(tl.int8)).to(tl.int32))",
    "fp16_arithmetic": "h = a.to(tl.float16); tl.store(out + i, (h * h + h * 0.1 - 3).to(tl.float32))",
    "fp16_division": "h = a.to(tl.float16); tl.store(out + i, (h / (h * h + 1)).to(tl.float32))",
    "where_promotes": "tl.store(out + i, tl.where(k > 0, a, k))",
    "maximum_drops_nan": (
        "b = tl.where(k > 0, a, float('nan')); tl.store(out + i, tl.maximum(b, -1.0) + tl.minimum(0.5, b))"
    ),
    "maximum_of_integers": "tl.store(whole + i, tl.maximum(k, 3) - tl.minimum(k, i))",
    "maximum_passes_nan_on": (
        "b = tl.where(k > 0, a, float('nan')); tl.store(out + i, tl.maximum(b, a, propagate_nan=tl.PropagateNan.ALL))"
    ),
    "clamp": "tl.store(out + i, tl.clamp(a, -0.5, 0.5))",
    "elementwise": (
        "p = tl.abs(a) + 0.1; tl.store(out + i, tl.exp(a) + tl.exp2(a) + tl.log(p) + tl.log2(p) + tl.sqrt(p) "
        "+ tl.rsqrt(p) + tl.sin(a) + tl.cos(a) + tl.erf(a) + tl.floor(a) + tl.ceil(a) + tl.fma(a, p, a))"
    ),
    "sigmoid_and_softmax": "tl.store(out + i, tl.sigmoid(a) + tl.softmax(a))",
    "reductions": (
        "t = tl.reshape(a, [8, 16]); s = tl.sum(t, axis=1) + tl.max(t, axis=1) * tl.min(t, axis=1); "
        "tl.store(out + tl.arange(0, 8), s); tl.store(out + 8, tl.sum(a)); tl.store(out + 9 + tl.arange(0, 1), "
        "tl.sum(a, axis=0, keep_dims=True))"
    ),
    "sums_of_booleans_count": "tl.store(whole + i, tl.sum((k > 3).to(tl.int1), axis=0) + i)",
    "arg_reductions": (
        "t = tl.reshape(k % 5, [8, 16]); v, at = tl.max(t, axis=1, return_indices=True); j = tl.arange(0, 8); "
        "tl.store(whole + j, at * 100 + v); tl.store(whole + 8 + j, tl.argmin(t, axis=1)); "
        "tl.store(whole + 16, tl.argmax(a, axis=0)); tl.store(whole + 17, tl.xor_sum(k, axis=0))"
    ),
    "reduction_with_a_combine": "v, at = tl.reduce((a, i), 0, later); tl.store(out, v); tl.store(whole, at)",
    "scans": (
        "tl.store(out + i, tl.cumsum(a, axis=0) + tl.cumsum(a, axis=0, reverse=True)); "
        "tl.store(whole + i, tl.cumsum(tl.reshape(k, [8, 16]), axis=0).reshape([128]))"
    ),
    "scan_with_a_combine": "f, y = tl.associative_scan((tl.sigmoid(a), a), 0, decayed); tl.store(out + i, y)",
    "reverse_scan_with_a_combine": (
        "f, y = tl.associative_scan((tl.sigmoid(a), a), 0, decayed, reverse=True); tl.store(out + i, y)"
    ),
    "sort": "tl.store(out + i, tl.sort(a)); tl.store(whole + i, tl.sort(k, descending=True))",
    "topk": "tl.store(out + tl.arange(0, 4), tl.topk(a, 4))",
    "gather_and_histogram": (
        "tl.store(out + i, tl.gather(a, 127 - i, 0)); tl.store(whole + i, tl.histogram(i // 3, 128))"
    ),
    "shapes": (
        "t = a.reshape([4, 32]); u = tl.trans(t); v = tl.permute(u.reshape([8, 4, 4]), [2, 0, 1]); "
        "l, r = tl.split(v.reshape([64, 2])); tl.store(out + i, tl.interleave(l, r) + tl.join(r, l).reshape([128]))"
    ),
    "broadcasting": (
        "p = tl.arange(0, 8)[:, None] * 16 + tl.arange(0, 16)[None, :]; "
        "q = tl.broadcast_to(tl.arange(0, 16)[None, :], [8, 16]) + tl.expand_dims(tl.arange(0, 8), 1); "
        "tl.store(whole + p, q + p * 2)"
    ),
    "random": "tl.store(out + i, tl.rand(7, i) + tl.randn(11, k)); tl.store(whole + i, tl.randint(5, i).to(tl.int32))",
    "high_half_of_a_product": "tl.store(whole + i, tl.umulhi(k * k * 7919, 0x6789ABCD))",
    "swizzle": "p, q = tl.swizzle2d(i // 16, i % 16, 8, 16, 4); tl.store(whole + i, p * 100 + q)",
    "masked_load": "tl.store(out + i, tl.load(x + i * 2, mask=i < 64, other=-7))",
    "masked_store": "tl.store(out + i * 2, a, mask=i < 32)",
    "atomics": (
        "tl.atomic_add(out + (i // 4), a); tl.atomic_max(whole + (i % 8), k); "
        "tl.atomic_min(whole + 8 + (i % 8), k, mask=k > 0); tl.atomic_xchg(whole + 100, 5); "
        "tl.atomic_cas(whole + 101, 0, 9)"
    ),
    "control_flow": textwrap.dedent("""
        total = 0
        for j in tl.range(1, tl.load(n + 3) % 5 + 8, 2):
            if j > 4:
                total += j
            else:
                total -= 1
        half = total
        while half > 2:
            half = half // 2
        tl.store(whole + i, total * 1000 + half)
    """),
    "dot": (
        "t = a.reshape([8, 16]); s = tl.join(t, t).reshape([16, 16]); "
        "u = tl.dot(s, tl.trans(s), input_precision='ieee'); tl.store(out + tl.arange(0, 16), tl.sum(u, axis=1))"
    ),
    "dot_of_int8": (
        "t = k.to(tl.int8).reshape([8, 16]); s = tl.join(t, t).permute([0, 2, 1]).reshape([16, 16]); "
        "w = tl.join(s, s).reshape([16, 32]); "
        "tl.store(whole + tl.arange(0, 16), tl.sum(tl.dot(w, tl.trans(w)), axis=0))"
    ),
    "dot_of_fp16": (
        "t = a.to(tl.float16).reshape([8, 16]); s = tl.join(t, t).reshape([16, 16]); "
        "tl.store(out + tl.arange(0, 16), tl.sum(tl.dot(s, s), axis=0))"
    ),
    "descriptors": (
        "d = tl.make_tensor_descriptor(x, shape=[6, 12], strides=[16, 1], block_shape=[8, 16]); t = d.load([2, 4]); "
        "e = tl.make_tensor_descriptor(out, shape=[7, 16], strides=[16, 1], block_shape=[8, 16]); e.store([1, 0], t)"
    ),
}

CASES = {
    name: Kernel(
        "kernel",
        FUNCTIONS + textwrap.indent(body.strip(), "    ") + "\n",
        (
            KernelParam("x", "buffer", "f32"),
            KernelParam("n", "buffer", "i32"),
            KernelParam("out", "buffer", "f32"),
            KernelParam("whole", "buffer", "i32"),
        ),
        grid=(1,),
    )
    for name, body in BODIES.items()
}


def arguments() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The four tensors; the same in every process."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(SIZE, generator=generator)
    n = torch.randint(-50, 50, (SIZE,), dtype=torch.int32, generator=generator)
    return x, n, torch.zeros(SIZE), torch.zeros(SIZE, dtype=torch.int32)


def main(path: str) -> None:
    """Run every case with Triton's interpreter and save what it wrote: for a process of its own."""
    import linecache

    results = {}
    for name, case in CASES.items():
        filename = f"<{name}>"
        linecache.cache[filename] = (len(case.source), None, case.source.splitlines(keepends=True), filename)
        scope: dict[str, object] = {"__name__": name}
        exec(compile(case.source, filename, "exec"), scope)
        tensors = arguments()
        scope["kernel"][(1,)](*tensors)  # type: ignore[index]
        results[name] = tensors[2:]
    torch.save(results, path)


if __name__ == "__main__":
    main(sys.argv[1])
