"""`fusednn.torch`'s modules where TorchScript, its ONNX export or forward mode looks at them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

from torch.autograd import forward_ad  # noqa: E402

import fusednn.torch as ft  # noqa: E402

# Sizes are constants of a trace, which PyTorch warns of; and of TorchScript, in forward mode, too.
pytestmark = [
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*(torch.jit|legacy TorchScript).*:DeprecationWarning"),
]


def trained(seed=0):
    """A network of ours that has seen a batch, and a batch."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), ft.BatchNormLeakyReLU1d(6, inplace=True))
    model(torch.randn(8, 4))
    return model, torch.randn(5, 4)


def test_a_trace_calls_the_kernels(tmp_path):
    model, x = trained()
    model.eval()
    with torch.no_grad():
        traced = torch.jit.trace(model, x)
    assert "fusednn::batch_norm_inference" in str(traced.inlined_graph)
    torch.jit.save(traced, tmp_path / "model.pt")
    other = torch.randn(9, 4)
    torch.testing.assert_close(torch.jit.load(tmp_path / "model.pt")(other), model(other))


def test_a_trace_of_training_updates_the_statistics():
    model, x = trained()
    traced = torch.jit.trace(model, x, check_trace=False)
    again, _ = trained()
    again(x)  # that of the trace
    for batch in (torch.randn(5, 4), torch.randn(9, 4)):
        torch.testing.assert_close(traced(batch), again(batch))
    for ours, theirs in zip(model.buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's, among its own parts
def test_an_export_to_onnx_is_refused_until_the_model_is_reverted(tmp_path):
    pytest.importorskip("onnx")
    model = ft.convert(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.LeakyReLU()))
    x, file = torch.randn(5, 4), tmp_path / "model.onnx"
    with pytest.raises(torch.onnx.errors.UnsupportedOperatorError, match="fusednn::batch_norm"):
        torch.onnx.export(model.eval(), (x,), file, dynamo=False)
    torch.onnx.export(ft.revert(model), (x,), file, dynamo=False)
    assert file.stat().st_size > 0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("recorded", [True, False])
def test_forward_mode_is_refused_and_not_forgotten(training, recorded):
    model = ft.BatchNormLeakyReLU1d(4).train(training)
    x = torch.randn(5, 4)
    with forward_ad.dual_level(), torch.set_grad_enabled(recorded):
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(NotImplementedError, match="jvp"):
            model(dual)
