import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from cairn.envs.spaces import Pixels, Symbols, Tokens, Tree, flatten
from cairn.shaping.networks import Encoder, Moments, PixelStack, SymbolSum, Whitening, linear, parts_of

SYMBOLS = Symbols((3, 3, 2), (4, 3))
SPACE = gym.spaces.Dict(
    {
        "camera": Pixels((9, 12, 3)),
        "grid": SYMBOLS,
        "inner": gym.spaces.Dict({"turn": gym.spaces.Discrete(4), "speed": gym.spaces.Box(-1, 1, (2, 2), np.float32)}),
        "mission": Tokens(5),
    }
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(rows: int, seed: int = 0) -> dict[str, Tree]:
    g = seeded(seed)
    return {
        "camera": torch.randint(0, 256, (rows, 9, 12, 3), generator=g).to(torch.uint8),
        "grid": torch.randint(0, 3, (rows, 3, 3, 2), generator=g).to(torch.uint8),
        "inner": {"turn": torch.randint(0, 4, (rows,), generator=g), "speed": torch.randn(rows, 2, 2, generator=g)},
        "mission": torch.randint(0, 9, (rows, 5), generator=g),
    }


def test_the_same_seed_gives_the_same_bits_and_takes_none_of_the_global_stream() -> None:
    before = torch.get_rng_state()
    one, same, other = (Encoder(parts_of(SPACE), 16, seeded(s)).state_dict() for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[k], same[k]) for k in one)
    drawn = [k for k in one if k.endswith(("weight", "table"))]
    assert len(drawn) == 6 and not any(torch.equal(one[k], other[k]) for k in drawn)


def test_text_is_dropped_and_nothing_else() -> None:
    white, net = Whitening(SPACE), Encoder(parts_of(SPACE), 16, seeded())
    assert list(white.parts) == [("camera",), ("grid",), ("inner", "speed"), ("inner", "turn")]
    obs = batch(6)
    out = net(white(obs))
    assert out.shape == (6, 16) and out.dtype == torch.float32
    assert torch.equal(net(white({**obs, "mission": obs["mission"] + 1})), out)  # type: ignore[operator]
    fresh = batch(6, 1)
    for part in ("camera", "grid", "inner"):
        assert not torch.allclose(net(white({**obs, part: fresh[part]})), out)
    with pytest.raises(TypeError, match="nothing but text"):
        parts_of(gym.spaces.Dict({"mission": Tokens(5)}))
    with pytest.raises(TypeError, match="Dict space"):
        parts_of(gym.spaces.Tuple([gym.spaces.Discrete(2)]))


def test_symbols_equal_a_linear_layer_on_the_one_hot_grid() -> None:
    net, grid = SymbolSum(SYMBOLS, 5, seeded()), batch(50)["grid"]
    assert isinstance(grid, Tensor)
    hot = flatten(SYMBOLS, grid).reshape(50, 9, 7)
    hot = torch.cat([hot[..., 1:4], hot[..., 5:]], -1).flatten(1)  # value 0 of each channel has no row
    expected = hot @ net.table[1:]
    assert torch.allclose(net(grid), expected, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(net(grid), expected, atol=1e-5)
    net(grid).square().sum().backward()
    assert net.table.grad is not None and (net.table.grad[0] == 0).all() and (net.table.grad[1:] != 0).any()


@pytest.mark.parametrize("shape", [(3, 3, 1), (9, 12, 3), (40, 33, 3)])
def test_pictures_of_any_size(shape: tuple[int, int, int]) -> None:
    net = PixelStack(Pixels(shape), 7, seeded())
    assert net(torch.rand(2, *shape)).shape == (2, 7)


def test_other_kinds_of_space() -> None:
    for space, obs in (
        (gym.spaces.Discrete(3, start=2), torch.tensor([2, 4])),
        (gym.spaces.MultiDiscrete([2, 3]), torch.tensor([[0, 2], [1, 0]])),
        (gym.spaces.MultiBinary(4), torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0]], dtype=torch.int8)),
        (gym.spaces.Box(-1, 1, (), np.float32), torch.tensor([0.5, -0.5])),
    ):
        out = Encoder(parts_of(space), 8, seeded())(Whitening(space)(obs))
        assert out.shape == (2, 8) and not torch.equal(out[0], out[1])


def test_moments_merge_to_those_of_all_rows() -> None:
    rows = torch.randn(100, 3, generator=seeded()) * 4 + 7
    moments = Moments((3,))
    assert (moments.deviation == 1).all()
    for part in rows.split([1, 30, 0, 69]):
        moments.add(part)
    assert torch.allclose(moments.mean.float(), rows.mean(0), atol=1e-5)
    assert torch.allclose(moments.deviation.float(), rows.std(0, correction=0), atol=1e-5)
    again = Moments((3,))
    again.load(moments.state())
    assert torch.equal(again.deviation, moments.deviation)


def test_whitening_by_hand() -> None:
    space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    white = Whitening(space)
    white.learn(torch.tensor([[0.0, 5.0], [4.0, 5.0]]))  # means 2 and 5, deviations 2 and none
    state = white.state()
    out = white(torch.tensor([[6.0, 5.0], [-100.0, 6.0]]))[0]
    assert torch.allclose(out, torch.tensor([[2.0, 0.0], [-5.0, 5.0]]))
    assert all(torch.equal(white.state()[""][k], v) for k, v in state[""].items()), "looking changes nothing"
    again = Whitening(space)
    again.load(state)
    assert torch.equal(again(torch.ones(1, 2))[0], white(torch.ones(1, 2))[0])


def test_distinct_rows() -> None:
    obs = batch(4)
    order = torch.tensor([2, 0, 2, 3, 0, 0])
    rows, of = Whitening(SPACE).distinct(
        {
            "camera": obs["camera"][order],  # type: ignore[index]
            "grid": obs["grid"][order],  # type: ignore[index]
            "inner": {k: v[order] for k, v in obs["inner"].items()},  # type: ignore[union-attr, index]
            "mission": torch.arange(30).reshape(6, 5),
        }
    )
    assert sorted(order[rows].tolist()) == [0, 2, 3] and torch.equal(order[rows][of], order)
    assert sorted(rows.tolist()) == [0, 1, 3]


def test_linear_layers_are_orthogonal() -> None:
    layer = linear(5, 3, seeded())
    assert torch.allclose(layer.weight @ layer.weight.T, 2 * torch.eye(3), atol=1e-5) and (layer.bias == 0).all()
