"""Triton kernels of one time step of a recurrence, for a block of hidden units of one direction.

A time step is one launch (two with normalization inside the recurrence).  The product with what the
neighbouring step left is part of the kernel, and the end of a launch is what makes all units wait for each
other.  Buffers are contiguous, ``[D, N, H]`` or ``[D, N, 4H]``.  ``ROWS`` sequences and ``UNITS`` units or
gates are done at a time, ``DEPTH`` terms of a product; all are padded and masked.  Arguments are

* ``first``, ``size``: the step's first row and its number of sequences;
* ``before``, ``before_rows``: the first row of the step before, and the rows of the buffer that it is in
  (that of the first states has ``B``);
* ``later``, ``later_size``: the first row of the step after, and its number of sequences (0 after the last).
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

import triton.language as tl

from asr_bn.layers.recurrence.triton_blocks import (
    activation,
    four_products,
    product,
    sigmoid,
    step_kernel,
    tanh,
)


@step_kernel
def lstm_forward(
    gates,
    h,
    c,
    before_h,
    before_c,
    w_hh,
    peephole,
    first,
    size,
    before,
    before_rows,
    num_rows,
    PRODUCT: tl.constexpr,
    HIDDEN: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
    ACC: tl.constexpr,
    DOT: tl.constexpr,
):
    """Compute eqs. 12-16: ``gates`` hold the input part (all, without ``PRODUCT``) and become activations."""
    direction = tl.program_id(2).to(tl.int64)
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    unit = (tl.program_id(0) * UNITS + tl.arange(0, UNITS))[None, :]
    row_live, unit_live = row < size, unit < HIDDEN
    live = row_live & unit_live
    own = direction * num_rows + first + row
    previous = direction * before_rows + before + row
    gate = gates + own * (4 * HIDDEN) + unit
    i = tl.load(gate, mask=live, other=0.0).to(ACC)
    f = tl.load(gate + HIDDEN, mask=live, other=0.0).to(ACC)
    g = tl.load(gate + 2 * HIDDEN, mask=live, other=0.0).to(ACC)
    o = tl.load(gate + 3 * HIDDEN, mask=live, other=0.0).to(ACC)
    if PRODUCT:
        a, b = before_h + previous * HIDDEN, w_hh + (direction * 4 * HIDDEN + unit) * HIDDEN
        i, f, g, o = four_products(i, f, g, o, a, row_live, b, unit_live, HIDDEN, DEPTH, DOT)
    i, f, g = sigmoid(i), sigmoid(f), tanh(g)
    cell = f * tl.load(before_c + previous * HIDDEN + unit, mask=live, other=0.0).to(ACC) + i * g
    if peephole is not None:
        o += tl.load(peephole + direction * HIDDEN + unit, mask=unit_live, other=0.0).to(ACC) * cell
    o = sigmoid(o)
    tl.store(gate, i, mask=live)
    tl.store(gate + HIDDEN, f, mask=live)
    tl.store(gate + 2 * HIDDEN, g, mask=live)
    tl.store(gate + 3 * HIDDEN, o, mask=live)
    tl.store(c + own * HIDDEN + unit, cell, mask=live)
    tl.store(h + own * HIDDEN + unit, o * tanh(cell), mask=live)


@step_kernel
def lstm_backward(
    grad_gates,
    later_grads,
    grad_h,
    grad_c,
    gates,
    c,
    before_c,
    w_hh,
    peephole,
    first,
    size,
    before,
    before_rows,
    later,
    later_size,
    num_rows,
    batch,
    HIDDEN: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
    ACC: tl.constexpr,
    DOT: tl.constexpr,
):
    """Fill ``grad_gates`` of the step and pass ``grad_c`` ``[D, B, H]`` on to the step before.

    ``grad_h`` is the gradient of the outputs; what comes back from the step after is added here, from
    ``later_grads``, the gradients of that step's products.
    """
    direction = tl.program_id(2).to(tl.int64)
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    unit = (tl.program_id(0) * UNITS + tl.arange(0, UNITS))[None, :]
    row_live, unit_live = row < size, unit < HIDDEN
    live = row_live & unit_live
    own = direction * num_rows + first + row
    previous = direction * before_rows + before + row

    to_h = tl.load(grad_h + own * HIDDEN + unit, mask=live, other=0.0).to(ACC)
    a = later_grads + (direction * num_rows + later + row) * (4 * HIDDEN)
    b = w_hh + direction * 4 * HIDDEN * HIDDEN + unit
    to_h = product(to_h, a, row < later_size, b, unit_live, HIDDEN, 4 * HIDDEN, DEPTH, DOT)

    gate = gates + own * (4 * HIDDEN) + unit
    i = tl.load(gate, mask=live, other=0.0).to(ACC)
    f = tl.load(gate + HIDDEN, mask=live, other=0.0).to(ACC)
    g = tl.load(gate + 2 * HIDDEN, mask=live, other=0.0).to(ACC)
    o = tl.load(gate + 3 * HIDDEN, mask=live, other=0.0).to(ACC)
    tanh_c = tanh(tl.load(c + own * HIDDEN + unit, mask=live, other=0.0).to(ACC))
    c_before = tl.load(before_c + previous * HIDDEN + unit, mask=live, other=0.0).to(ACC)
    to_c_at = grad_c + (direction * batch + row) * HIDDEN + unit
    to_c = tl.load(to_c_at, mask=live, other=0.0).to(ACC)

    to_o = to_h * tanh_c * o * (1.0 - o)
    to_c += to_h * o * (1.0 - tanh_c * tanh_c)
    if peephole is not None:
        to_c += to_o * tl.load(peephole + direction * HIDDEN + unit, mask=unit_live, other=0.0).to(ACC)
    target = grad_gates + own * (4 * HIDDEN) + unit
    tl.store(target, to_c * g * i * (1.0 - i), mask=live)
    tl.store(target + HIDDEN, to_c * c_before * f * (1.0 - f), mask=live)
    tl.store(target + 2 * HIDDEN, to_c * i * (1.0 - g * g), mask=live)
    tl.store(target + 3 * HIDDEN, to_o, mask=live)
    tl.store(to_c_at, to_c * f, mask=live)


@step_kernel
def rnn_forward(
    h,
    before_h,
    w_hh,
    first,
    size,
    before,
    before_rows,
    num_rows,
    NONLINEARITY: tl.constexpr,
    HIDDEN: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
    ACC: tl.constexpr,
    DOT: tl.constexpr,
):
    """Compute eq. 7: ``h`` holds the input part and becomes the hidden states."""
    direction = tl.program_id(2).to(tl.int64)
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    unit = (tl.program_id(0) * UNITS + tl.arange(0, UNITS))[None, :]
    row_live, unit_live = row < size, unit < HIDDEN
    own = h + (direction * num_rows + first + row) * HIDDEN + unit
    a = before_h + (direction * before_rows + before + row) * HIDDEN
    b = w_hh + (direction * HIDDEN + unit) * HIDDEN
    x = tl.load(own, mask=row_live & unit_live, other=0.0).to(ACC)
    x = product(x, a, row_live, b, unit_live, 1, HIDDEN, DEPTH, DOT)
    tl.store(own, activation(x, NONLINEARITY), mask=row_live & unit_live)


@step_kernel
def rnn_backward(
    grad_z,
    later_grads,
    grad_h,
    h,
    w_hh,
    first,
    size,
    later,
    later_size,
    num_rows,
    NONLINEARITY: tl.constexpr,
    HIDDEN: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
    ACC: tl.constexpr,
    DOT: tl.constexpr,
):
    """Fill ``grad_z`` of the step; see :func:`lstm_backward`."""
    direction = tl.program_id(2).to(tl.int64)
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    unit = (tl.program_id(0) * UNITS + tl.arange(0, UNITS))[None, :]
    row_live, unit_live = row < size, unit < HIDDEN
    live = row_live & unit_live
    own = (direction * num_rows + first + row) * HIDDEN + unit
    a = later_grads + (direction * num_rows + later + row) * HIDDEN
    b = w_hh + direction * HIDDEN * HIDDEN + unit
    grad = tl.load(grad_h + own, mask=live, other=0.0).to(ACC)
    grad = product(grad, a, row < later_size, b, unit_live, HIDDEN, HIDDEN, DEPTH, DOT)
    state = tl.load(h + own, mask=live, other=0.0).to(ACC)
    if NONLINEARITY == "tanh":
        grad *= 1.0 - state * state
    else:
        grad = tl.where(state > 0.0, grad, 0.0)
    tl.store(grad_z + own, grad, mask=live)
