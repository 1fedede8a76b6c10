"""The compiled autoencoder beside torch's layers: points, errors, gradients, a whole fit."""

import pytest
import torch

from cairn.qd import ImageDescriptor
from cairn.qd.compiled_images import LEAST, Layout, Loop
from cairn.qd.images import networks, prepared


def pictures(count):
    """Noise of several brightnesses: on a smooth ground many units pass SELU's edge together, by rounding."""
    frames = torch.randint(0, 256, (count, 64, 64, 3), generator=torch.Generator().manual_seed(1))
    return (frames // torch.tensor([1, 2, 5])[torch.arange(count) % 3, None, None, None]).to(torch.uint8)


def both(width):
    torch.manual_seed(3)
    encoder, decoder = networks(width)
    for part in (encoder, decoder):
        for parameter in part.parameters():  # as they are after some learning: first biases are small
            parameter.data += 0.02 * torch.randn(parameter.shape)
    layout = Layout(width)
    numbers = layout.gather(encoder, decoder)
    return encoder.double(), decoder.double(), layout, Loop(layout), numbers


@pytest.mark.parametrize("width", [10, 17])
def test_points_errors_and_gradients_are_those_of_torchs_layers(width):
    encoder, decoder, layout, loop, numbers = both(width)
    frames, rows = pictures(9), torch.tensor([7, 0, 3, 3, 8])
    real = prepared(frames)[rows].double()
    points = encoder(real)
    errors = (decoder(points) - real).square().flatten(1).mean(-1)
    errors.mean().backward()
    got_points, got_errors = loop(numbers, frames, rows)
    assert torch.allclose(got_points.double(), points, atol=1e-5) and got_points.std() > 0.01
    assert torch.allclose(got_errors.double(), errors, rtol=1e-5)
    assert torch.equal(loop(numbers, frames, rows, redraw=False)[0], got_points)
    slope = loop.slope(numbers, frames, rows).clone()
    for part in (encoder, decoder):
        for parameter in part.parameters():
            parameter.data = parameter.grad
    expected = layout.gather(encoder, decoder)
    ends = [*sorted(layout.places.values()), layout.size]
    for low, high in zip(ends, ends[1:]):
        gap, most = (slope[low:high] - expected[low:high]).abs().max(), expected[low:high].abs().max()
        assert most > 0 and gap < 1e-4 * most


def test_pictures_as_numbers_and_as_bytes_are_the_same():
    *_, loop, numbers = both(4)
    frames, rows = pictures(3), torch.arange(3)
    real = prepared(frames).permute(0, 2, 3, 1).contiguous()
    for a, b in zip(loop(numbers, frames, rows), loop(numbers, real, rows)):
        assert torch.equal(a, b)


def test_the_number_of_threads_changes_no_bit():
    *_, loop, numbers = both(5)
    frames, rows = pictures(2 * LEAST + 3), torch.arange(2 * LEAST + 3)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append((*loop(numbers, frames, rows), loop.slope(numbers, frames, rows)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found))


def torchs_fit(model, frames, passes):
    """What ``fit`` does, by torch's layers and with a look at the held-out error after every pass."""
    torch.manual_seed(5)
    encoder, decoder = networks(model.width)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    generator, real = torch.Generator().manual_seed(5), prepared(frames)
    order = torch.randperm(len(real), generator=generator)
    cut = len(order) // 5
    least, above, made = float("inf"), 0, 0
    for _ in range(passes):
        made += 1
        for part in torch.randperm(len(real) - cut, generator=generator).split(model.batch):
            shown = real[order[cut:][part]]
            optimiser.zero_grad()
            (decoder(encoder(shown)) - shown).square().mean().backward()
            optimiser.step()
        with torch.no_grad():
            shown = real[order[:cut]]
            error = float((decoder(encoder(shown)) - shown).square().flatten(1).mean(-1).mean())
        above = above + 1 if error > least else 0
        least = min(least, error)
        if above >= model.patience:
            break
    return encoder, made


@pytest.mark.parametrize(("passes", "patience"), [(4, 4), (12, 1)])
def test_a_fit_is_torchs(passes, patience, monkeypatch):
    frames = pictures(40)
    model = ImageDescriptor(3, epochs=passes, batch=16, patience=patience, seed=5)
    steps, looks, slope, look = [], [], model._loop.slope, Loop.__call__
    monkeypatch.setattr(model._loop, "slope", lambda *a: (steps.append(1), slope(*a))[1])
    monkeypatch.setattr(Loop, "__call__", lambda *a, **k: (looks.append(1), look(*a, **k))[1])
    model.fit(frames)
    encoder, made = torchs_fit(model, frames, passes)
    assert len(steps) == 2 * made
    assert len(looks) == (0 if patience == passes else min(made, passes - 1))  # no more than can matter
    assert torch.allclose(model.encode(frames), encoder(prepared(frames)), atol=2e-3)
