"""Triton kernels of one time step's normalization inside the recurrence (eq. 17); see ``triton_kernels``.

A program has some gates of one direction, and sees all sequences.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

import triton.language as tl

from asr_bn.layers.recurrence.triton_blocks import activation, product, step_kernel


@step_kernel
def norm_forward(
    gates,
    normalized,
    mean,
    variance,
    gamma,
    beta,
    before_h,
    w_hh,
    first,
    size,
    before,
    before_rows,
    num_rows,
    step,
    num_steps,
    BATCH_STATISTICS: tl.constexpr,
    NONLINEARITY: tl.constexpr,
    EPS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
    ACC: tl.constexpr,
    DOT: tl.constexpr,
):
    """Compute eq. 17: ``gates`` ``[D, N, WIDTH]`` hold the input part and become ``phi(BN(W_h h + W_x x))``.

    ``normalized`` keeps what gamma multiplies; ``mean`` and ``variance``, ``[D, T, WIDTH]``, are written, or
    read without ``BATCH_STATISTICS``.
    """
    direction = tl.program_id(1).to(tl.int64)
    unit = (tl.program_id(0) * UNITS + tl.arange(0, UNITS))[None, :]
    unit_live = unit < WIDTH
    own = direction * num_rows + first
    previous = direction * before_rows + before
    statistics = (direction * num_steps + step) * WIDTH + unit
    b = w_hh + (direction * WIDTH + unit) * HIDDEN
    total = tl.zeros((1, UNITS), ACC)
    for start in range(0, size, ROWS):
        row = (start + tl.arange(0, ROWS))[:, None]
        live = (row < size) & unit_live
        x = tl.load(gates + (own + row) * WIDTH + unit, mask=live, other=0.0).to(ACC)
        x = product(x, before_h + (previous + row) * HIDDEN, row < size, b, unit_live, 1, HIDDEN, DEPTH, DOT)
        tl.store(normalized + (own + row) * WIDTH + unit, x, mask=live)
        total += tl.sum(tl.where(live, x, 0.0), axis=0, keep_dims=True)
    tl.debug_barrier()  # other threads of the program read what was stored
    if BATCH_STATISTICS:
        centre = total / size
        squares = tl.zeros((1, UNITS), ACC)
        for start in range(0, size, ROWS):
            row = (start + tl.arange(0, ROWS))[:, None]
            live = (row < size) & unit_live
            x = tl.load(normalized + (own + row) * WIDTH + unit, mask=live, other=0.0).to(ACC) - centre
            squares += tl.sum(tl.where(live, x * x, 0.0), axis=0, keep_dims=True)
        spread = squares / size
        tl.store(mean + statistics, centre, mask=unit_live)
        tl.store(variance + statistics, spread, mask=unit_live)
    else:
        centre = tl.load(mean + statistics, mask=unit_live, other=0.0).to(ACC)
        spread = tl.load(variance + statistics, mask=unit_live, other=0.0).to(ACC)
    inverse = 1.0 / tl.sqrt(spread + EPS)
    scale = tl.load(gamma + direction * WIDTH + unit, mask=unit_live, other=0.0).to(ACC)
    shift = tl.load(beta + direction * WIDTH + unit, mask=unit_live, other=0.0).to(ACC)
    for start in range(0, size, ROWS):
        row = (start + tl.arange(0, ROWS))[:, None]
        live = (row < size) & unit_live
        at = (own + row) * WIDTH + unit
        x = (tl.load(normalized + at, mask=live, other=0.0).to(ACC) - centre) * inverse
        tl.store(normalized + at, x, mask=live)
        tl.store(gates + at, activation(scale * x + shift, NONLINEARITY), mask=live)


@step_kernel
def norm_backward(
    grad,
    grad_output,
    normalized,
    variance,
    gamma,
    first,
    size,
    num_rows,
    step,
    num_steps,
    BATCH_STATISTICS: tl.constexpr,
    EPS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute ``grad`` of what was normalized from ``grad_output`` of the result, for one step."""
    direction = tl.program_id(1).to(tl.int64)
    unit = (tl.program_id(0) * UNITS + tl.arange(0, UNITS))[None, :]
    unit_live = unit < WIDTH
    own = direction * num_rows + first
    centre = tl.zeros((1, UNITS), ACC)
    along = tl.zeros((1, UNITS), ACC)
    if BATCH_STATISTICS:
        for start in range(0, size, ROWS):
            row = (start + tl.arange(0, ROWS))[:, None]
            at, live = (own + row) * WIDTH + unit, (row < size) & unit_live
            y = tl.load(grad_output + at, mask=live, other=0.0).to(ACC)
            x = tl.load(normalized + at, mask=live, other=0.0).to(ACC)
            centre += tl.sum(y, axis=0, keep_dims=True)
            along += tl.sum(y * x, axis=0, keep_dims=True)
        centre /= size
        along /= size
    statistics = (direction * num_steps + step) * WIDTH + unit
    spread = tl.load(variance + statistics, mask=unit_live, other=0.0).to(ACC)
    scale = tl.load(gamma + direction * WIDTH + unit, mask=unit_live, other=0.0).to(ACC) / tl.sqrt(
        spread + EPS
    )
    for start in range(0, size, ROWS):
        row = (start + tl.arange(0, ROWS))[:, None]
        at, live = (own + row) * WIDTH + unit, (row < size) & unit_live
        y = tl.load(grad_output + at, mask=live, other=0.0).to(ACC)
        x = tl.load(normalized + at, mask=live, other=0.0).to(ACC)
        tl.store(grad + at, scale * (y - centre - x * along), mask=live)
