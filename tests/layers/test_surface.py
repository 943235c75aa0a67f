"""The layers where nn.LSTM is expected: members, changed weights, torch.func, scripts, half precision."""

import copy
import inspect
import io
import itertools
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacrev, stack_module_state, vmap
from torch.nn.utils import parametrizations, prune

import asr_bn
import asr_bn.layers
from asr_bn import BatchNormLSTM, BatchNormRNN
from asr_bn.training.optimization import set_precision

NORMS = (None, "sequence", "frame", "recurrent")
LENGTHS = torch.tensor([6, 4, 1, 3])


def make(norm: str | None = None, kind: type = BatchNormLSTM, **options: object):
    """A layer that has seen a batch."""
    torch.manual_seed(0)
    layer = kind(5, 3, 2, batch_first=True, norm=norm, eps=0.1, **options)
    layer(features().to(next(layer.parameters()).dtype), lengths=LENGTHS)
    return layer


def features() -> Tensor:
    return torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_it_has_the_members_of_nn_lstm(bias, bidirectional):
    plain = nn.LSTM(5, 3, 2, bias, True, 1.0, bidirectional, 0, "cpu", torch.float64)
    layer = BatchNormLSTM(5, 3, 2, bias, True, 1.0, bidirectional, 0, "cpu", torch.float64)
    layer.load_state_dict(plain.state_dict())
    layer.flatten_parameters()
    assert (layer.proj_size, layer.dropout) == (0, 1.0)
    for ours, theirs in zip(layer.all_weights, plain.all_weights, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    x = features().double()
    torch.testing.assert_close(layer(x)[0], plain(x)[0], rtol=1e-12, atol=1e-12)  # dropout 1: zeros in
    assert [len(weights) for weights in make("sequence", peephole=True).all_weights] == [5, 5]


def test_it_prints_what_is_not_a_default():
    layer = BatchNormLSTM(5, 3, 2, dropout=0.5, norm="frame", momentum=None, max_steps=9)
    assert layer.extra_repr() == "5, 3, num_layers=2, norm='frame', dropout=0.5, momentum=None, max_steps=9"
    assert BatchNormRNN(5, 3).extra_repr() == "5, 3, num_layers=1, norm=None"


CHANGES = {
    "weight norm": lambda layer, name: parametrizations.weight_norm(layer, name),
    "spectral norm": lambda layer, name: parametrizations.spectral_norm(layer, name),
    "pruning": lambda layer, name: prune.l1_unstructured(layer, name, 0.5),
}


@pytest.mark.parametrize("norm", [None, "sequence"])
@pytest.mark.parametrize("kind", [BatchNormLSTM, BatchNormRNN])
@pytest.mark.parametrize("name", ["weight_ih_l1", "weight_hh_l0"])
@pytest.mark.parametrize("change", CHANGES)
def test_fold_has_the_weights_that_the_layer_computes_with(change, name, kind, norm):
    """Right after a step of training, too, when what pruning left in the layer is out of date."""
    layer = make(norm, kind)
    CHANGES[change](layer, name)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(features(), lengths=LENGTHS)[0].square().sum().backward()
    optimizer.step()
    modes, buffers = [part.training for part in layer.modules()], copy.deepcopy(dict(layer.named_buffers()))
    folded = layer.fold()
    assert [part.training for part in layer.modules()] == modes
    assert all(torch.equal(buffer, buffers[key]) for key, buffer in layer.named_buffers())
    expected, _ = layer.eval()(features())
    torch.testing.assert_close(folded.eval()(features())[0], expected, rtol=1e-5, atol=1e-6)


def test_reset_parameters_knows_parametrized_gamma():
    layer = make("sequence", initial_gamma=0.3)
    nn.utils.parametrize.register_parametrization(layer, "gamma_l0", nn.Identity())
    with torch.no_grad():
        layer.parametrizations.gamma_l0.original.fill_(7.0)
    layer.reset_parameters()
    assert layer.gamma_l0.unique().tolist() == pytest.approx([0.3])


@pytest.mark.parametrize(("norm", "bidirectional"), list(itertools.product(NORMS, (False, True))))
def test_the_transforms_of_torch_func_equal_autograd(norm, bidirectional):
    layer = make(norm, bidirectional=bidirectional, dtype=torch.float64).eval()
    x, parameters = features().double(), dict(layer.named_parameters())

    def loss(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, values, (x,), {"lengths": LENGTHS})[0].pow(3).sum()

    expected = torch.autograd.grad(loss(parameters, x), list(parameters.values()))
    for ours, theirs in zip(grad(loss)(parameters, x).values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    for ours, theirs in zip(jacrev(loss)(parameters, x).values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    many = torch.stack([x, 2.0 * x])
    each = vmap(grad(loss), (None, 0))(parameters, many)
    expected = torch.autograd.grad(loss(parameters, many[1]), list(parameters.values()))
    for ours, theirs in zip(each.values(), expected, strict=True):
        torch.testing.assert_close(ours[1], theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_forward_mode_derivatives_equal_differences(norm):
    """Central ones of a step of 1e-6, in float64: off by its square and by rounding, 1e-10 each."""
    layer = make(norm, bidirectional=True, dtype=torch.float64).eval()
    x, along = features().double(), torch.ones(4, 6, 5, dtype=torch.float64)
    with forward_ad.dual_level():
        output, _ = layer(forward_ad.make_dual(x, along), lengths=LENGTHS)
        tangent = forward_ad.unpack_dual(output).tangent
    ahead, behind = (layer(x + step * along, lengths=LENGTHS)[0] for step in (1e-6, -1e-6))
    torch.testing.assert_close(tangent, (ahead - behind) / 2e-6, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("norm", NORMS[1:])
def test_vmap_over_statistics_is_refused(norm):
    layers, x = [make(norm).eval() for _ in range(2)], features()
    parameters, buffers = stack_module_state(layers)
    with pytest.raises(RuntimeError, match="vmap cannot run over population statistics"):
        vmap(lambda *values: functional_call(layers[0], values, x)[0])(parameters, buffers)


def test_there_is_no_forward_pass_on_the_meta_device():
    layer = BatchNormLSTM(5, 3, norm="sequence", device="meta")
    with pytest.raises(ValueError, match="the input is on the meta device"):
        layer(torch.zeros(4, 2, 5, device="meta"))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("norm", ["sequence", "frame", "recurrent"])
def test_the_transforms_cannot_update_statistics(norm):
    layer = make(norm)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward-mode derivatives cannot"):
        layer(features())
    with pytest.raises(RuntimeError, match=r"cannot update population statistics: call eval\(\)"):
        grad(lambda x: layer(x)[0].sum())(features())


class Around(nn.Module):
    """A model that calls a layer as it would nn.LSTM."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        h, _ = self.layer(x)
        return h


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [BatchNormLSTM, BatchNormRNN])
def test_scripts_are_of_the_same_parameters(kind, bias):
    layer = kind(5, 3, 2, bias=bias, batch_first=True, bidirectional=True)
    scripted = torch.jit.script(Around(layer))
    torch.testing.assert_close(scripted(features()), layer(features())[0], rtol=1e-5, atol=1e-6)
    assert scripted.layer.weight_hh_l0 is layer.weight_hh_l0


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("options", [{"norm": "sequence"}, {"norm": "frame"}, {"peephole": True}], ids=str)
def test_what_scripts_cannot_hold_is_refused(options):
    with pytest.raises(ValueError, match=r"script what fold\(\) gives"):
        torch.jit.script(make(**options))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The tensor attributes self._flat_weights:UserWarning")
def test_exports_and_traces_name_fold():
    set_precision("float32")  # as training leaves the process
    layer = make("sequence").eval()
    with pytest.raises(RuntimeError, match=r"export what fold\(\) gives"):
        torch.export.export(layer, (features(),), strict=False)
    with pytest.raises(RuntimeError, match=r"export what fold\(\) gives"):
        torch.jit.trace(layer, (features(),))
    exported = torch.export.export(layer.fold(), (features(),)).module()
    torch.testing.assert_close(exported(features())[0], layer(features())[0], rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_export_and_symbolic_traces_are_refused():
    layer = make("sequence").eval()
    with pytest.raises(RuntimeError, match=r"export what fold\(\) gives"):
        torch.onnx.export(layer, (features(),), io.BytesIO(), dynamo=False)
    with pytest.raises(TypeError, match="the input is a Proxy, expected a tensor"):
        torch.fx.symbolic_trace(Around(layer))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [BatchNormLSTM, BatchNormRNN])
@pytest.mark.parametrize("norm", NORMS)
def test_half_precision_is_off_by_its_rounding(norm, kind, dtype):
    """Against the same layer in float32, on the same rounded parameters and input: 2^-8 and 2^-11.

    Sixteen sequences of four frames: statistics of few of them would magnify the rounding.
    """
    layer = make(norm, kind, bidirectional=True).to(dtype)
    exact = make(norm, kind, bidirectional=True)
    exact.load_state_dict(layer.state_dict())
    bound = 16 * torch.finfo(dtype).eps  # after four steps and two layers, and back
    x = torch.randn(16, 4, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    for training in (True, False):
        results = []
        for module in (layer.train(training), exact.train(training)):
            inputs = x.to(next(module.parameters()).dtype).requires_grad_()
            output, state = module(inputs)
            assert output.dtype == inputs.dtype
            loss = output.float().square().sum()
            states = state if isinstance(state, tuple) else (state,)
            results.append([output, *states, *torch.autograd.grad(loss, [inputs, *module.parameters()])])
        for ours, theirs in zip(*results, strict=True):
            assert (ours.float() - theirs).abs().max() <= bound * theirs.abs().max().clamp_min(1.0)
    assert all(buffer.dtype == torch.float64 for buffer in layer.buffers())


def test_the_constructors_arguments_are_those_of_nn_lstm_in_their_order():
    own, of_rnn = (list(inspect.signature(kind).parameters) for kind in (BatchNormLSTM, BatchNormRNN))
    theirs = list(inspect.signature(nn.RNNBase.__init__).parameters)[2:]
    assert own[: len(theirs)] == theirs
    assert of_rnn == [*own[:3], "nonlinearity", *(name for name in own[3:] if name != "peephole")]


def test_importing_the_project_imports_no_pytorch():
    program = "import sys, asr_bn; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_the_public_names_are_those_of_the_stubs():
    for package in (asr_bn, asr_bn.layers):
        assert all(hasattr(package, name) for name in package.__all__)
    assert asr_bn.BatchNormLSTM is asr_bn.layers.BatchNormLSTM is BatchNormLSTM


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("lengths", [None, [6, 4, 1, 3], LENGTHS], ids=["full", "list", "tensor"])
def test_the_default_device_is_not_where_a_layer_works(norm, lengths):
    """As with nn.LSTM; the meta device stands for any other: it keeps no values."""
    results = []
    for device in ("cpu", "meta"):
        layer, x = make(norm, bidirectional=True), features().requires_grad_()
        with torch.device(device):
            output, (h_n, _) = layer(x, lengths=lengths)
            gradient = torch.autograd.grad(output.square().sum(), x)[0]
            evaluated, _ = layer.eval()(x, lengths=lengths)
        results.append([output, h_n, gradient, evaluated, *layer.buffers()])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))


def replica(layer: nn.Module) -> nn.Module:
    """What ``torch.nn.parallel.replicate`` makes for another device: parameters become attributes."""
    copied = layer._replicate_for_data_parallel()
    for name, child in layer.named_children():
        setattr(copied, name, replica(child))
    for name, values in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        setattr(copied, name, values.clone())
    return copied


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_replicas_of_data_parallel_run(norm, training):
    layer = make(norm).train(training)
    output, _ = replica(layer)(features(), lengths=LENGTHS)
    assert torch.equal(output, layer(features(), lengths=LENGTHS)[0])
