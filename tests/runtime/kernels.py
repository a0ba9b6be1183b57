"""Hand-written kernels, as code generation would hand them over."""

from __future__ import annotations

from rooftile.codegen.kernel import Blocks, Kernel, KernelParam
from rooftile.ir.expr import Symbol, of

HEADER = "import triton\nimport triton.language as tl\n\n\n@triton.jit\n"
LANGUAGE = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def buffer(name: str, dtype: str, *, aligned: bool = True) -> KernelParam:
    return KernelParam(name, "buffer", dtype, aligned)


def size(name: str, dtype: str = "i32", *, aligned: bool = False) -> KernelParam:
    return KernelParam(name, "size", dtype, aligned)


def vector_add(dtype: str = "bf16") -> Kernel:
    """``c = a + b`` over ``n`` elements, added in fp32 and rounded once; 256 elements a program."""
    source = f"""{HEADER}def vector_add(a, b, c, n):
    i = tl.program_id(0) * 256 + tl.arange(0, 256)
    x = tl.load(a + i, mask=i < n, other=0.0).to(tl.float32)
    y = tl.load(b + i, mask=i < n, other=0.0).to(tl.float32)
    tl.store(c + i, (x + y).to(tl.{LANGUAGE[dtype]}), mask=i < n)
"""
    params = (buffer("a", dtype), buffer("b", dtype), buffer("c", dtype), size("n"))
    return Kernel("vector_add", source, params, grid=(1,))


def matmul(dtype: str, *, warps: int = 4) -> Kernel:
    """``c[m, n] = a[m, k] b[k, n]`` in 64x64x32 tiles, ``k`` known at run time; accumulated in fp32."""
    source = f"""{HEADER}def matmul(a, b, c, m, n, k):
    row = tl.program_id(0) * 64 + tl.arange(0, 64)
    col = tl.program_id(1) * 64 + tl.arange(0, 64)
    acc = tl.zeros([64, 64], dtype=tl.float32)
    for start in tl.range(0, k, 32):
        inner = start + tl.arange(0, 32)
        left = (row[:, None] < m) & (inner[None, :] < k)
        right = (inner[:, None] < k) & (col[None, :] < n)
        x = tl.load(a + row[:, None] * k + inner[None, :], mask=left, other=0.0)
        y = tl.load(b + inner[:, None] * n + col[None, :], mask=right, other=0.0)
        acc = tl.dot(x, y, acc, input_precision="ieee")
    out = (row[:, None] < m) & (col[None, :] < n)
    tl.store(c + row[:, None] * n + col[None, :], acc.to(tl.{LANGUAGE[dtype]}), mask=out)
"""
    params = (buffer("a", dtype), buffer("b", dtype), buffer("c", dtype), size("m"), size("n"), size("k"))
    return Kernel("matmul", source, params, grid=(1, 1), num_warps=warps)


def row_softmax(dtype: str = "f32") -> Kernel:
    """The softmax of each row of ``x[rows, columns]``, for up to 128 columns; one row a program."""
    source = f"""{HEADER}def row_softmax(x, y, columns):
    j = tl.arange(0, 128)
    at = tl.program_id(0).to(tl.int64) * columns + j
    row = tl.load(x + at, mask=j < columns, other=float("-inf")).to(tl.float32)
    p = tl.exp(row - tl.max(row, axis=0))
    tl.store(y + at, (p / tl.sum(p, axis=0)).to(tl.{LANGUAGE[dtype]}), mask=j < columns)
"""
    return Kernel("row_softmax", source, (buffer("x", dtype), buffer("y", dtype), size("columns")), grid=(1,))


def gather() -> Kernel:
    """``out[i, :] = table[index[i], :]`` for rows of 64; the width is a 64-bit size."""
    source = f"""{HEADER}def gather(table, index, out, width):
    i = tl.program_id(0)
    j = tl.arange(0, 64)
    row = tl.load(index + i)
    tl.store(out + i * width + j, tl.load(table + row * width + j))
"""
    params = (buffer("table", "f32"), buffer("index", "i64"), buffer("out", "f32"), size("width", "i64", aligned=True))
    return Kernel("gather", source, params, grid=(1,))


def descriptor_matmul() -> Kernel:
    """``c = a b`` in bf16 through on-device tensor descriptors, 64x64x64 tiles."""
    source = f"""{HEADER}def descriptor_matmul(a, b, c, m, n, k):
    da = tl.make_tensor_descriptor(a, shape=[m, k], strides=[k, 1], block_shape=[64, 64])
    db = tl.make_tensor_descriptor(b, shape=[k, n], strides=[n, 1], block_shape=[64, 64])
    dc = tl.make_tensor_descriptor(c, shape=[m, n], strides=[n, 1], block_shape=[64, 64])
    row = tl.program_id(0) * 64
    col = tl.program_id(1) * 64
    acc = tl.zeros([64, 64], dtype=tl.float32)
    for start in tl.range(0, k, 64, warp_specialize=True):
        acc = tl.dot(da.load([row, start]), db.load([start, col]), acc)
    dc.store([row, col], acc.to(tl.bfloat16))
"""
    params = (
        buffer("a", "bf16"),
        buffer("b", "bf16"),
        buffer("c", "bf16"),
        size("m"),
        size("n", aligned=True),
        size("k", aligned=True),
    )
    return Kernel("descriptor_matmul", source, params, grid=(1, 1), num_warps=4, num_stages=3)


def given_descriptor() -> Kernel:
    """``y[0:32, :] = x[1, 32:64, :]`` in bf16, where ``x`` are ``n`` matrices of 100 rows of 64 in every 128 elements,
    8 elements behind the start of their buffer, described by the host."""
    source = f"""{HEADER}def given_descriptor(x, y, x_block):
    row, column = tl.arange(0, 32), tl.arange(0, 64)
    tl.store(y + row[:, None] * 64 + column[None, :], tl.reshape(x_block.load([1, 32, 0]), [32, 64]))
"""
    blocks = Blocks("x", 8, (of(Symbol("n")), 100, 64), (12800, 128, 1), (1, 32, 64))
    described = KernelParam("x_block", "descriptor", "bf16", aligned=False, blocks=blocks)
    return Kernel("given_descriptor", source, (buffer("x", "bf16"), buffer("y", "bf16"), described), grid=(1,))


def two_as_one() -> Kernel:
    """``y = [a[32:64, :], b[32:64, :]]`` in bf16, that of ``a`` and ``b`` first which lies lower in memory, each with
    100 rows of 64 from element 8 of its buffer on; and in ``z`` whether that is ``a``."""
    source = f"""{HEADER}def two_as_one(a, b, y, z, blocks):
    row, column = tl.arange(0, 64), tl.arange(0, 64)
    tl.store(y + row[:, None] * 64 + column[None, :], tl.reshape(blocks.load([0, 32, 0]), [64, 64]))
    tl.store(z, (tl.cast(a, tl.int64) < tl.cast(b, tl.int64)).to(tl.int32))
"""
    described = Blocks("a", 8, (2, 100, 64), (0, 64, 1), (2, 32, 64), "b")
    params = (*(buffer(name, "bf16") for name in "aby"), buffer("z", "i32"))
    given = KernelParam("blocks", "descriptor", "bf16", aligned=False, blocks=described)
    return Kernel("two_as_one", source, (*params, given), grid=(1,))


def nan_max() -> Kernel:
    """The maximum of 64 numbers and its index, propagating NaN by a combine function of its own."""
    source = """import triton
import triton.language as tl


@triton.jit
def combine(a, i, b, j):
    left = (a != a) | ((a >= b) & (b == b))
    return tl.where(left, a, b), tl.where(left, i, j)


@triton.jit
def nan_max(x, value, index):
    i = tl.arange(0, 64)
    best, at = tl.reduce((tl.load(x + i), i), 0, combine)
    tl.store(value, best)
    tl.store(index, at)
"""
    return Kernel("nan_max", source, (buffer("x", "f32"), buffer("value", "f32"), buffer("index", "i32")), grid=(1,))


ALL = {
    "vector_add": vector_add(),
    "matmul_f32": matmul("f32"),
    "matmul_f16": matmul("f16"),
    "matmul_bf16": matmul("bf16"),
    "row_softmax": row_softmax(),
    "gather": gather(),
    "descriptor_matmul": descriptor_matmul(),
    "nan_max": nan_max(),
}
