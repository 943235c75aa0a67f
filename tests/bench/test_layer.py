"""The GPU table of ``bench/layer.py``, on the CPU at a tiny size: all contenders, precisions and columns."""

import pytest
import torch

from bench import layer


@pytest.fixture
def tiny(monkeypatch):
    for name, size in {"INPUT": 3, "HIDDEN": 4, "LAYERS": 2}.items():
        monkeypatch.setattr(layer, name, size)


def test_gpu_table_has_every_contender_at_every_precision(tiny, capsys, monkeypatch):
    # oneDNN has an LSTM in bfloat16 for some CPUs only; PyTorch's own kernels run on every one.
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    lengths = torch.tensor([5, 3, 2, 5])
    layer.print_on_gpu(torch.device("cpu"), 1, lengths, memory=lambda run: 7.0)
    printed = capsys.readouterr().out
    assert "15 real frames of 20 padded" in printed
    for name in (layer.DENSE, layer.CUDNN, *layer.ON_GPU):
        rows = [line.removeprefix(name).split() for line in printed.splitlines() if line[:42].strip() == name]
        assert len(rows) == len(layer.PRECISIONS)
        for row in rows:
            frames, ratio, *allowed, peak = (float(value) for value in row)
            assert frames > 0 and ratio > 0 and peak == 7.0
            assert allowed == ([layer.ON_GPU[name][1]] if name in layer.ON_GPU else [])
            assert name != layer.CUDNN or ratio == 1.0


def test_precision_is_set_for_a_step_alone():
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.rnn)
    before = [place.fp32_precision for place in places]
    for precision, expected in (("float32", "ieee"), ("TF32", "tf32"), ("bf16", "ieee")):
        with layer.products(precision):
            assert [place.fp32_precision for place in places] == [expected, expected]
        assert [place.fp32_precision for place in places] == before
