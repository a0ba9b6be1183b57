"""Small ``@triton.jit`` functions that a kernel may call: what ``triton.language`` lacks, or computes unlike torch."""

from __future__ import annotations

FUNCTIONS: dict[str, str] = {
    "maximum_or_nan": """
def maximum_or_nan(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
""",
    "minimum_or_nan": """
def minimum_or_nan(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
""",
    "larger": """
def larger(a, b):
    return tl.maximum(a, b)
""",
    "smaller": """
def smaller(a, b):
    return tl.minimum(a, b)
""",
    "multiply": """
def multiply(a, b):
    return a * b
""",
    # The hardware's instruction, right to 2e-7 of the result, zero where that is below 2 ** -126. The library's fast
    # division has another one beside it: a gate and what it gates, 8192x14336x4096, took 2457 us on an H200, now 2420.
    "quick_reciprocal": """
def quick_reciprocal(x):
    return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
""",
    # A fifth of the library's instructions, which are the larger part of an epilogue; right to 6e-6 of the result.
    "quick_tanh": """
def quick_tanh(x):
    far = 1.0 - 2.0 * quick_reciprocal(tl.exp2(x * 2.8853900817779268) + 1.0)
    near = x * (1.0 - x * x * 0.3333333333333333)
    return tl.where(tl.abs(x) < 0.015625, near, far)
""",
    # A quarter of the language's own, whose division is made for all of fp32.
    "quick_sigmoid": """
def quick_sigmoid(x):
    return quick_reciprocal(1.0 + tl.exp2(x * -1.4426950408889634))
""",
    # Press et al., Numerical Recipes, section 6.2, with log2(e) in the coefficients; right to 1e-5 of the result, also
    # where that is small.
    "quick_erfc": """
def quick_erfc(x):
    z = tl.abs(x)
    t = quick_reciprocal(1.0 + 0.5 * z)
    p = -1.186114945 + t * 0.246517298
    p = 2.147474464 + t * p
    p = -1.637753152 + t * p
    p = 0.402321582 + t * p
    p = -0.26875686 + t * p
    p = 0.139630057 + t * p
    p = 0.539700616 + t * p
    p = 1.442729204 + t * p
    p = -1.825748218 + t * p
    far = t * tl.exp2(p - z * z * 1.4426950408889634)
    return tl.where(x < 0.0, 2.0 - far, far)
""",
    # The hardware's conversion gives the largest finite number where torch has infinity.
    "to_f8e5m2": """
def to_f8e5m2(x):
    bits = x.to(tl.float8e5).to(tl.uint8, bitcast=True)
    return tl.where(tl.abs(x) >= 61440.0, bits & 0x80 | 0x7C, bits).to(tl.float8e5, bitcast=True)
""",
    # A NaN beats every number, and the lower index wins between equals and between NaNs.
    "first_maximum": """
def first_maximum(a, i, b, j):
    first = (a > b) | ((a == b) & (i < j)) | ((a != a) & ((b == b) | (i < j)))
    return tl.where(first, a, b), tl.where(first, i, j)
""",
    "first_minimum": """
def first_minimum(a, i, b, j):
    first = (a < b) | ((a == b) & (i < j)) | ((a != a) & ((b == b) | (i < j)))
    return tl.where(first, a, b), tl.where(first, i, j)
""",
    # Triton's `//` and `%` on integers round towards zero.
    "floor_divide": """
def floor_divide(a, b):
    inexact = (a % b != 0) & ((a < 0) != (b < 0))
    return a // b - inexact
""",
    "floor_mod": """
def floor_mod(a, b):
    r = a % b
    return tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)
""",
    "float_floor_divide": """
def float_floor_divide(a, b):
    r = libdevice.fmod(a, b)
    q = (a - r) / b
    q = tl.where((r != 0) & ((r < 0) != (b < 0)), q - 1, q)
    whole = tl.floor(q)
    whole = tl.where(q - whole > 0.5, whole + 1, whole)
    return tl.where(b == 0, a / b, whole)
""",
    "float_floor_mod": """
def float_floor_mod(a, b):
    r = libdevice.fmod(a, b)
    return tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)
""",
}


def functions_in(text: str) -> list[str]:
    """The definitions of the functions that ``text`` mentions, and of those that these call, in the table's order."""
    called: set[str] = set()
    for name in reversed(FUNCTIONS):  # each calls only those before it
        if any(f"{name}{end}" in caller for caller in (text, *map(FUNCTIONS.__getitem__, called)) for end in "()"):
            called.add(name)
    return [definition.strip("\n") for name, definition in FUNCTIONS.items() if name in called]
