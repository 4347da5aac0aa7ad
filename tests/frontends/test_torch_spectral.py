"""Complex numbers and Fourier transforms from PyTorch: pairs of real tensors compute what torch computes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tersor.backends.runners import OrtRunner  # noqa: E402
from tersor.frontends.torch import from_module  # noqa: E402
from tersor.ir import UnsupportedError, verify  # noqa: E402
from torch import fft  # noqa: E402


class Functions(torch.nn.Module):
    """Several functions of the same operands, by name."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions
        self.register_buffer("turns", torch.polar(torch.ones(6, 5), torch.arange(30.0).reshape(6, 5)))

    def forward(self, x, c):
        return {name: function(x, torch.view_as_complex(c), self.turns) for name, function in self.functions.items()}


FUNCTIONS = {
    "several axes": lambda x, c, t: fft.fftn(x, dim=(1, 2)).real,
    "the last axis": lambda x, c, t: torch.view_as_real(fft.fft(x)),
    "inverse": lambda x, c, t: torch.view_as_real(fft.ifft(c, dim=1)),
    "scaled by the root": lambda x, c, t: torch.view_as_real(fft.fft2(x, norm="ortho")),
    "scaled forward": lambda x, c, t: fft.ifft2(fft.fft2(c, norm="forward"), norm="forward").imag,
    "half the frequencies": lambda x, c, t: fft.rfft(x, dim=1).imag,
    "a filter": lambda x, c, t: fft.irfft2(fft.rfft2(x, norm="ortho") * c[:, :, :3], s=(6, 5), norm="ortho"),
    "back to an odd size": lambda x, c, t: fft.irfft(fft.rfft(x, dim=2), n=5, dim=2),
    "back to an even size": lambda x, c, t: fft.irfft(fft.rfft(x, dim=1), dim=1),
    "a rotation": lambda x, c, t: torch.view_as_real(c * t).flatten(2),
    "a rotation by angles": lambda x, c, t: torch.view_as_real(c * torch.polar(torch.ones_like(x), x)),
    "sizes": lambda x, c, t: (c - t).abs(),
    "parts": lambda x, c, t: (c.transpose(1, 2) * 2 + x.transpose(1, 2)).imag,
    "cut and filled up": lambda x, c, t: torch.cat([fft.fft(x, n=8).imag, fft.rfft(x, n=4, dim=2).real], 2),
    "back from other sizes": lambda x, c, t: torch.cat(
        [fft.irfft(c, n=6), fft.irfft(c, n=12), fft.ifft(c, n=3).real], 2
    ),
    "quotients": lambda x, c, t: torch.view_as_real(x / c + c / t),
    "powers of e": lambda x, c, t: torch.view_as_real(torch.exp(c) * torch.exp(1j * x)),
    "angles": lambda x, c, t: c.angle() + x.angle(),
    "products of matrices": lambda x, c, t: torch.view_as_real(c.mT @ t),
    "conjugates": lambda x, c, t: torch.view_as_real((torch.complex(x, x) / 3 - c.conj()).conj().resolve_conj()),
}


def test_complex_numbers_inside_a_graph():
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(2, 6, 5, generator=generator), torch.randn(2, 6, 5, 2, generator=generator)
    module = Functions(FUNCTIONS)
    model = from_module(module, given)
    verify(model.graph)
    found = OrtRunner(model).run({v.name: x.numpy() for v, x in zip(model.graph.inputs, given, strict=True)})
    for name, expected in module(*given).items():
        np.testing.assert_allclose(found[name], expected.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)


class Frames(torch.nn.Module):
    def __init__(self, center, length):
        super().__init__()
        self.center, self.length = center, length
        self.register_buffer("window", torch.hann_window(12) + 0.1)

    def forward(self, x):
        frames = {"hop_length": 4, "win_length": 12, "window": self.window, "center": self.center}
        size = 16 if self.center else 12
        spectra = torch.stft(x, size, **frames, normalized=True, return_complex=True)
        back = torch.istft(spectra, size, **frames, normalized=True, length=self.length)
        return spectra.abs(), torch.view_as_real(torch.stft(x[0], 8, return_complex=True)), back


@pytest.mark.parametrize(("center", "length"), [(True, None), (True, 40), (False, None)])
def test_short_time_transforms_and_back(center, length):
    module, given = Frames(center, length), torch.randn(2, 48, generator=torch.Generator().manual_seed(0))
    model = from_module(module, (given,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    other = torch.cat([given, given[:1] * 2])
    for x in (given, other):
        found = OrtRunner(model).run({model.graph.inputs[0].name: x.numpy()})
        for value, expected in zip(found.values(), module(x), strict=True):
            np.testing.assert_allclose(value, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "function",
    [lambda x, c, t: c * 2, lambda x, c, t: torch.log(c).real],
    ids=["a complex result", "a function of complex numbers"],
)
def test_what_pairs_cannot_express_is_refused(function):
    with pytest.raises(UnsupportedError):
        from_module(Functions({"y": function}), (torch.randn(2, 6, 5), torch.randn(2, 6, 5, 2)))
