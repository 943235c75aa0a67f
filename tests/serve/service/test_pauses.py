"""Garbage collection in a server that is ready: short, and nothing depends on it."""

import gc
import sys
import weakref

import numpy as np
import pytest

from serve.service.lifecycle import without_long_pauses
from serve.service.models import LoadOptions, ModelStore
from tests.helpers.serving import write_model


def is_collected_from(thing: object) -> bool:
    """Whether a collection goes through ``thing``."""
    return any(other is thing for other in gc.get_objects())


def test_what_is_there_before_is_left_out_of_collections_and_later_things_are_not():
    before, switch_interval = [{"some": "application"}], sys.getswitchinterval()
    with without_long_pauses():
        later = [{"some": "request"}]
        assert not is_collected_from(before)
        assert is_collected_from(later)
        assert sys.getswitchinterval() == pytest.approx(0.001)
    assert is_collected_from(before)
    assert sys.getswitchinterval() == switch_interval


def test_garbage_of_starting_is_collected_first():
    class Node:
        other: "Node"

    node = Node()
    node.other = node
    gone = weakref.ref(node)
    gc.disable()
    try:
        del node
        assert gone() is not None
        with without_long_pauses():
            assert gone() is None
    finally:
        gc.enable()


def test_an_unloaded_model_frees_its_memory_without_a_collection(tmp_path):
    path = write_model(tmp_path / "digits.onnx")
    store = ModelStore(path, "", LoadOptions(device="cpu"))
    store.load_all()
    store.get().log_posteriors([np.zeros((5, 123), np.float32)] * 2)
    model = weakref.ref(store.get())
    scorer = weakref.ref(store.get()._scorer)
    with without_long_pauses():
        gc.disable()
        try:
            store.unload("digits")
            assert model() is None
            assert scorer() is None
        finally:
            gc.enable()
