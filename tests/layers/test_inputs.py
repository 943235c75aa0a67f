"""What the layers are called with is used, or refused in a sentence, in the caller's own shapes."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from asr_bn import BatchNormLSTM, BatchNormRNN

X = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
STATE = torch.zeros(1, 2, 3)


def make(norm: str | None = None, kind: type = BatchNormLSTM, **options: object):
    torch.manual_seed(0)
    return kind(5, 3, batch_first=True, norm=norm, **options)


USED = {
    "list": [4, 2],
    "tuple": (4, 2),
    "range": range(4, 0, -2),
    "list of tensors": [torch.tensor(4), torch.tensor(2)],
    "array": np.array([4, 2], dtype=np.uint16),
    "array from the end": np.sort(np.array([2, 4]))[::-1],
    "array of the other byte order": np.array([4, 2], dtype=">i8"),
    "array of objects": np.array([4, 2], dtype=object),
    **{f"{dtype}": torch.tensor([4, 2], dtype=dtype) for dtype in (torch.int8, torch.uint8, torch.int32)},
}
REFUSED = {
    "column": (torch.tensor([[4], [2]]), r"lengths have shape \(2, 1\), expected 2 numbers from 1 to 4"),
    "mask": (torch.ones(2, 4, dtype=torch.bool), r"lengths have shape \(2, 4\)"),
    "flags": ([True, True], "lengths are of torch.bool, expected 2 numbers from 1 to 4, whole ones"),
    "number": (4, r"lengths have shape \(\)"),
    "shares": (torch.tensor([1.0, 0.5]), "lengths are of torch.float32"),
    "array of shares": (np.array([1.0, 0.5]), "lengths are of torch.float32"),
    "too large an array": (
        np.array([4, 2**64 - 1], dtype=np.uint64),
        r"lengths are array\(\[ *4, 18446744073709551615",
    ),
    "too few": ([4], r"lengths have shape \(1,\)"),
    "none": ([], r"lengths have shape \(0,\)"),
    "too long": ([5, 2], r"lengths are \[5, 2\], expected 2 numbers from 1 to 4"),
    "zero": ([4, 0], r"lengths are \[4, 0\]"),
    "no numbers": ([4, None], r"lengths are \[4, None\], expected 2 numbers from 1 to 4"),
    "text": ("42", "lengths are '42'"),
}


@pytest.mark.parametrize("form", USED)
def test_lengths_of_any_form_are_used(form):
    expected = make()(X, lengths=torch.tensor([4, 2]))[0]
    assert not expected[1, 2:].any()
    assert torch.equal(make()(X, lengths=USED[form])[0], expected)


@pytest.mark.parametrize("form", REFUSED)
def test_other_lengths_are_refused(form):
    lengths, message = REFUSED[form]
    with pytest.raises(ValueError, match=message):
        make()(X, lengths=lengths)


@pytest.mark.parametrize("kind", [BatchNormLSTM, BatchNormRNN])
def test_lengths_of_one_sequence_are_used(kind):
    """It is what a batch of one is, in outputs, states and statistics."""
    one, batch = make("sequence", kind), make("sequence", kind)
    output, state = one(X[0], lengths=[3])
    expected, expected_state = batch(X[:1, :3])
    assert torch.equal(output[:3], expected[0])
    assert not output[3:].any()
    for ours, theirs in zip(state, expected_state, strict=True):
        assert torch.equal(ours.flatten(), theirs.flatten())
    assert one.stats_l0.count.item() == 3
    with pytest.raises(ValueError, match=r"lengths are \[9\], expected 1 numbers from 1 to 4"):
        one(X[0], lengths=[9])


def test_lengths_beside_a_packed_sequence_are_refused():
    with pytest.raises(ValueError, match="a PackedSequence has its own lengths"):
        make()(pack_sequence([X[0], X[1, :2]]), lengths=[4, 2])


def packed(data: Tensor, batch_sizes: list[int]) -> PackedSequence:
    return PackedSequence(data, torch.tensor(batch_sizes, dtype=torch.long))


EMPTY = torch.zeros(0, 4, 5)
CALLS = {
    "lengths of none": (lambda layer: layer(EMPTY, lengths=[7]), r"lengths have shape \(1,\), expected 0"),
    "features of none": (lambda layer: layer(EMPTY[..., :4]), "has 4 features, expected input_size = 5"),
    "states of none": (
        lambda layer: layer(EMPTY, (STATE, STATE)),
        r"h_0 has shape \(1, 2, 3\), expected \(1, 0, 3\)",
    ),
    "precision of none": (lambda layer: layer(EMPTY.double()), "is of torch.float64, the weights"),
    "precision": (lambda layer: layer(X.half()), "is of torch.float16, the weights are of torch.float32"),
    "no frames": (lambda layer: layer(X[:, :0]), "the input has no frames"),
    "one dimension": (lambda layer: layer(X[0, 0]), "the input has 1 dimensions, expected 2 or 3"),
    "states of one sequence": (
        lambda layer: layer(X[0], (STATE[:, :1], STATE[:, :1])),
        r"h_0 has shape \(1, 1, 3\), expected \(1, 3\)",
    ),
    "cells of one sequence": (
        lambda layer: layer(X[0], (STATE[:, 0], STATE[:, 0, :2])),
        r"c_0 has shape \(1, 2\), expected \(1, 3\)",
    ),
    "states of a batch": (
        lambda layer: layer(X, (STATE[:, 0], STATE[:, 0])),
        r"h_0 has shape \(1, 3\), expected \(1, 2, 3\)",
    ),
    "packed states": (
        lambda layer: layer(pack_sequence([X[0], X[1]]), (STATE[:, :1], STATE)),
        r"h_0 has shape \(1, 1, 3\), expected \(1, 2, 3\)",
    ),
    "precision of states": (
        lambda layer: layer(X, (STATE.double(), STATE)),
        "h_0 is of torch.float64, the input of torch.float32",
    ),
    "device of states": (
        lambda layer: layer(X, (STATE, STATE.to("meta"))),
        "c_0 is on meta, the input on cpu",
    ),
    "sparse": (lambda layer: layer(X.to_sparse()), "the input is a sparse or nested tensor"),
    "nested": (
        lambda layer: layer(torch.nested.nested_tensor([X[0]], layout=torch.jagged)),
        "the input is a sparse or nested tensor",
    ),
    "packed none": (
        lambda layer: layer(packed(X[0, :0], [])),
        r"data of shape \(0, 5\) and batch_sizes \[\]",
    ),
    "packed pictures": (lambda layer: layer(packed(X, [2])), r"data of shape \(2, 4, 5\)"),
    "packed in part": (lambda layer: layer(packed(X[0], [2, 1])), r"batch_sizes \[2, 1\], expected rows"),
    "packed upside down": (lambda layer: layer(packed(X[0], [1, 3])), r"batch_sizes \[1, 3\], expected rows"),
    "one tensor": (lambda layer: layer(X, STATE), "hx is a Tensor, expected the 2 tensors h_0, c_0"),
    "one state": (lambda layer: layer(X, (STATE,)), "hx is a tuple of 1, expected the 2 tensors"),
    "no tensors": (lambda layer: layer(X, (None, None)), "h_0 is a NoneType, expected a tensor"),
}


@pytest.mark.parametrize("norm", [None, "sequence", "frame", "recurrent"])
@pytest.mark.parametrize("call", CALLS)
def test_calls_that_do_not_fit_are_refused_as_the_caller_made_them(call, norm):
    run, message = CALLS[call]
    with pytest.raises(ValueError, match=message):
        run(make(norm))


@pytest.mark.parametrize("value", [None, [X], X.numpy()], ids=["None", "list", "array"])
def test_what_is_no_tensor_is_refused(value):
    with pytest.raises(TypeError, match="the input is a .*, expected a tensor or a PackedSequence"):
        make()(value)


def test_a_simple_recurrence_refuses_the_pair_of_an_lstm():
    with pytest.raises(ValueError, match="h_0 is a tuple of 2, expected a tensor"):
        make(kind=BatchNormRNN)(X, (STATE, STATE))


@pytest.mark.parametrize("batch_first", [False, True])
def test_states_of_one_sequence_are_those_of_a_batch_of_one(batch_first):
    layer = BatchNormLSTM(5, 3, 2, batch_first=batch_first, bidirectional=True)
    state: tuple[Tensor, Tensor] = (torch.randn(4, 3), torch.randn(4, 3))
    output, last = layer(X[0], state)
    batch = X[:1] if batch_first else X[0, :, None]
    expected, expected_last = layer(batch, tuple(values[:, None] for values in state))
    assert torch.equal(output, expected.view_as(output))
    assert all(torch.equal(a, b[:, 0]) for a, b in zip(last, expected_last, strict=True))


def test_an_empty_batch_takes_no_lengths_in_any_form():
    for lengths in (None, [], torch.tensor([], dtype=torch.long), np.array([])):
        assert make()(EMPTY, lengths=lengths)[0].shape == (0, 4, 3)
