"""Parts of the Triton kernels that run a time step of a recurrence: activations and matrix products.

``tanh(x)`` is ``2 sigmoid(2 x) - 1``: Triton's language has no tanh, and its CPU interpreter no libdevice.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

import triton
import triton.language as tl

# What differs from step to step must not be compiled into a kernel of its own.
VARYING = (
    "first",
    "size",
    "before",
    "before_rows",
    "later",
    "later_size",
    "num_rows",
    "batch",
    "step",
    "num_steps",
)
step_kernel = triton.jit(do_not_specialize=VARYING)


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@triton.jit
def activation(x, NONLINEARITY: tl.constexpr):
    if NONLINEARITY == "tanh":
        x = tanh(x)
    elif NONLINEARITY == "relu":
        x = tl.maximum(x, 0.0)
    return x


@triton.jit
def product(
    acc,
    a,
    a_live,
    b,
    b_live,
    STRIDE: tl.constexpr,
    TERMS: tl.constexpr,
    DEPTH: tl.constexpr,
    DOT: tl.constexpr,
):
    """Add a product: ``a`` ``[ROWS, 1]`` is where rows start, ``b`` ``[1, UNITS]`` where columns do.

    A row's terms are neighbours; a column's are ``STRIDE`` apart.
    """
    for start in range(0, TERMS, DEPTH):
        k = start + tl.arange(0, DEPTH)
        a_k = tl.load(a + k[None, :], mask=a_live & (k < TERMS)[None, :], other=0.0)
        b_k = tl.load(b + k[:, None] * STRIDE, mask=b_live & (k < TERMS)[:, None], other=0.0)
        acc = tl.dot(a_k, b_k, acc, input_precision=DOT, out_dtype=acc.dtype)
    return acc


@triton.jit
def four_products(
    i, f, g, o, a, a_live, b, b_live, HIDDEN: tl.constexpr, DEPTH: tl.constexpr, DOT: tl.constexpr
):
    """Add the products of the four gates of the same units, their weights ``HIDDEN`` rows apart."""
    gate: tl.constexpr = HIDDEN * HIDDEN
    for start in range(0, HIDDEN, DEPTH):
        k = start + tl.arange(0, DEPTH)
        a_k = tl.load(a + k[None, :], mask=a_live & (k < HIDDEN)[None, :], other=0.0)
        b_k = b + k[:, None]
        live = b_live & (k < HIDDEN)[:, None]
        b_i = tl.load(b_k, mask=live, other=0.0)
        b_f = tl.load(b_k + gate, mask=live, other=0.0)
        b_g = tl.load(b_k + 2 * gate, mask=live, other=0.0)
        b_o = tl.load(b_k + 3 * gate, mask=live, other=0.0)
        i = tl.dot(a_k, b_i, i, input_precision=DOT, out_dtype=i.dtype)
        f = tl.dot(a_k, b_f, f, input_precision=DOT, out_dtype=f.dtype)
        g = tl.dot(a_k, b_g, g, input_precision=DOT, out_dtype=g.dtype)
        o = tl.dot(a_k, b_o, o, input_precision=DOT, out_dtype=o.dtype)
    return i, f, g, o
