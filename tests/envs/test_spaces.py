"""Kinds of space, trees, encoding, the flat view, and the JSON codec."""

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.envs.kinds import BABYAI_LENGTH, MINIGRID_LENGTH, MINIGRID_WORDS
from cairn.envs.spaces import (
    Pixels,
    Symbols,
    Tokens,
    declare,
    encode,
    flat_size,
    flat_space,
    flatten,
    from_json,
    kind,
    to_json,
    tree_leaves,
    tree_map,
    zeros,
)

MINIGRID = spaces.Dict(
    {"image": Symbols((7, 7, 3), (11, 6, 4)), "direction": spaces.Discrete(4), "mission": Tokens(MINIGRID_LENGTH)}
)


def observation(fill: int = 1) -> dict[str, Any]:
    return {"image": np.full((7, 7, 3), fill, np.uint8), "direction": fill, "mission": "use the key, please"}


def test_subclasses_equal_the_box_with_the_same_bounds() -> None:
    assert Symbols((7, 7, 3), (11, 6, 4)) == spaces.Box(0, 255, (7, 7, 3), np.uint8)
    assert spaces.Box(0, 255, (7, 7, 3), np.uint8) == Symbols((7, 7, 3), (11, 6, 4))
    assert Pixels((32, 32, 3)) == spaces.Box(0, 255, (32, 32, 3), np.uint8)
    assert Symbols((7, 7, 3), (11, 6, 4)) != Symbols((7, 7, 3), (11, 6, 3))
    assert Tokens(4, ("<pad>", "<unknown>", "a")) != Tokens(4, ("<pad>", "<unknown>", "b"))


def test_symbols_sample_and_contain_their_values_only() -> None:
    space = Symbols((5, 5, 2), (3, 2), seed=0)
    draws = np.stack([space.sample() for _ in range(50)])
    assert draws[..., 0].max() == 2 and draws[..., 1].max() == 1
    assert all(space.contains(draw) for draw in draws)
    bad = draws[0].copy()
    bad[0, 0, 1] = 2
    assert not space.contains(bad)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Symbols((7, 7, 3), (11, 6)), "one size per channel"),
        (lambda: Symbols((7, 7, 1), (300,)), "between 1"),
        (lambda: Pixels((32, 32)), "height, width, channels"),
        (lambda: Tokens(3, ("<pad>", "<unknown>", "a", "a")), "no word twice"),
        (lambda: Tokens(3, by="sentence"), "'word' or by 'character'"),
    ],
)
def test_wrong_declarations_say_what_is_wrong(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_tokens_by_hand() -> None:
    space = Tokens(6, ("<pad>", "<unknown>", ",", "key", "the", "use"))
    # use=5 the=4 key=3 ,=2 please=unknown=1, and one padding
    assert space.encode("Use the key, please").tolist() == [5, 4, 3, 2, 1, 0]
    assert space.decode([5, 4, 3, 2, 1, 0]) == "use the key, <unknown>"
    assert space.encode("the " * 9).tolist() == [4] * 6  # cut
    letters = Tokens(3, ("<pad>", "<unknown>", "a", "b"), by="character")
    assert letters.encode("ba").tolist() == [3, 2, 0] and letters.decode([3, 2, 0]) == "ba"


@pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning")
def test_every_minigrid_mission_has_its_words_and_fits() -> None:
    import minigrid  # noqa: F401

    seen = set()
    for name in [i for i in gym.registry if i.startswith("MiniGrid-") and "WFC" not in i]:
        space: Any = gym.make(name, disable_env_checker=True).observation_space["mission"]  # type: ignore[index]
        space.seed(0)
        tokens = Tokens(MINIGRID_LENGTH + 1)
        for _ in range(3):
            row = tokens.encode(space.sample())
            assert 1 not in row and row[-1] == 0, name
            seen |= set(row.tolist())
    assert len(seen) > 30
    longest = "put the yellow ball on your left next to the purple box on your left"  # 15 words
    twice = f"{longest} and {longest} after you {longest} and {longest}"  # 15 * 4 + 2 + 2 = 64
    row = Tokens(BABYAI_LENGTH + 1).encode(twice)
    assert 1 not in row and row[-1] == 0 and row[-2] != 0
    assert MINIGRID_WORDS[:2] == ("<pad>", "<unknown>")


def test_kind_of_every_space() -> None:
    table = {
        "symbols": Symbols((2, 2, 1), (4,)),
        "pixels": Pixels((16, 16, 3)),
        "tokens": Tokens(4),
        "vector": spaces.Box(-1, 1, (3,)),
        "discrete": spaces.Discrete(3),
        "dict": MINIGRID,
        "tuple": spaces.Tuple([spaces.Discrete(2)]),
    }
    assert {name: kind(space) for name, space in table.items()} == {name: name for name in table}
    assert kind(spaces.MultiDiscrete([2, 3])) == kind(spaces.MultiBinary(3)) == "multi"
    with pytest.raises(TypeError, match="wrap the environment"):
        kind(spaces.Sequence(spaces.Discrete(2)))


def test_declare() -> None:
    view = spaces.Box(0, 255, (7, 7, 3), np.uint8)
    assert isinstance(declare(view, symbols=True), Symbols)
    assert kind(declare(view)) == "vector"  # 7 x 7 x 3 may be anything
    assert isinstance(declare(spaces.Box(0, 255, (84, 84, 3), np.uint8)), Pixels)
    assert kind(declare(spaces.Box(0, 1, (84, 84, 3), np.uint8))) == "vector"
    text = declare(spaces.Text(5, charset="ab"))
    assert isinstance(text, Tokens) and text.by == "character" and text.encode("ab").tolist() == [2, 3, 0, 0, 0]
    both = declare(spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (3,))]))
    assert isinstance(both, spaces.Dict) and list(both.spaces) == ["0", "1"]
    with pytest.raises(TypeError):
        declare(spaces.Dict({"a": spaces.Sequence(spaces.Discrete(2))}))


def test_encode_one_many_and_batches() -> None:
    one = encode(MINIGRID, observation())
    assert {k: tuple(v.shape) for k, v in one.items()} == {"image": (1, 7, 7, 3), "direction": (1,), "mission": (1, 24)}
    assert one["image"].dtype == torch.uint8 and one["mission"].dtype == one["direction"].dtype == torch.int64
    many = encode(MINIGRID, [observation(1), observation(2), observation(3)])
    assert many["direction"].tolist() == [1, 2, 3] and many["image"][:, 0, 0, 0].tolist() == [1, 2, 3]
    again = encode(MINIGRID, many)  # tensors pass
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(many), tree_leaves(again)))
    assert encode(spaces.Box(-1, 1, (2,)), np.zeros((5, 2))).shape == (5, 2)
    assert encode(declare(spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])), (1, 2))["1"].tolist() == [2]
    texts = encode(spaces.Dict({"m": Tokens(4)}), {"m": ("go", "up")})
    assert texts["m"].shape == (2, 4)


def test_encode_never_aliases_what_it_was_given() -> None:
    array = np.zeros((2,), np.float32)
    tensor = encode(spaces.Box(-1, 1, (2,)), array)
    array[:] = 1
    assert tensor.sum() == 0


@pytest.mark.parametrize(
    "obs, message",
    [
        ({"image": np.zeros((7, 7, 3), np.uint8), "direction": 0}, "lacks 'mission'"),
        ({**observation(), "image": np.zeros((5, 5, 3), np.uint8)}, r"\['image'\] has shape \(5, 5, 3\)"),
        ({**observation(), "direction": 0.5}, "whole numbers"),
        ({**observation(), "direction": "up"}, "holds numbers"),
        ([], "empty list"),
        (np.zeros((7, 7, 3), np.uint8), "of another environment"),
    ],
)
def test_encode_refuses(obs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(MINIGRID, obs)


def test_flatten_by_hand() -> None:
    # Two cells of (3, 2) values: (2, 0) and (0, 1) -> 001 10, 100 01; Discrete(3, start=1) value 2 -> 010; box as is
    space = spaces.Dict(
        {
            "a": Symbols((2, 2), (3, 2)),
            "b": spaces.Discrete(3, start=1),
            "c": spaces.Box(-5, 5, (2,)),
            "d": Tokens(4),
            "e": spaces.MultiDiscrete([2, 3]),
            "f": spaces.MultiBinary(2),
        }
    )
    obs = {
        "a": np.array([[2, 0], [0, 1]], np.uint8),
        "b": 2,
        "c": [1.5, -2.0],
        "d": "go",
        "e": [1, 0],
        "f": np.array([0, 1], np.int8),
    }
    flat = flatten(space, encode(space, obs))
    expected = [0, 0, 1, 1, 0, 1, 0, 0, 0, 1] + [0, 1, 0] + [1.5, -2.0] + [0, 1, 1, 0, 0] + [0, 1]
    assert flat.tolist() == [expected] and flat.dtype == torch.float32
    assert flat_size(space) == len(expected) and flat_space(space).shape == (len(expected),)
    assert flat_space(space).contains(flat[0].numpy())
    assert flat_space(space).low[13] == -5
    assert flatten(Pixels((16, 16, 1)), torch.full((2, 16, 16, 1), 255, dtype=torch.uint8)).unique().tolist() == [1.0]


def test_flatten_of_minigrid_is_1033_wide() -> None:
    assert flat_size(MINIGRID) == 7 * 7 * (11 + 6 + 4) + 4
    flat = flatten(MINIGRID, encode(MINIGRID, [observation(), observation()]))
    assert flat.shape == (2, 1033) and flat.sum(1).tolist() == [148.0, 148.0]
    beyond = {**observation(), "image": np.full((7, 7, 3), 200, np.uint8)}
    assert flatten(MINIGRID, encode(MINIGRID, beyond)).sum() == 1  # no category: zeros


def test_flat_view_of_text_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing but text"):
        flat_space(Tokens(4))


def test_zeros_and_trees() -> None:
    tree = zeros(MINIGRID, (3, 2))
    assert tree["image"].shape == (3, 2, 7, 7, 3) and tree["image"].dtype == torch.uint8
    assert tree_map(lambda a, b: a + b, {"x": {"y": 1}}, {"x": {"y": 2}}) == {"x": {"y": 3}}
    assert tree_leaves({"x": {"y": 1}, "z": 2}) == [1, 2]
    assert zeros(spaces.Box(0, 9, (2,), np.uint16), (1,)).dtype == torch.int32


LEAVES: Any = st.one_of(
    st.builds(lambda n, s: spaces.Discrete(n, start=s), st.integers(1, 9), st.integers(-3, 3)),
    st.builds(lambda n: spaces.MultiBinary(n), st.integers(1, 5)),
    st.builds(lambda n: spaces.MultiDiscrete(n), st.lists(st.integers(1, 5), min_size=1, max_size=4)),
    st.builds(
        lambda a, b, d: spaces.Box(a, a + b, (2, 3), d),
        st.integers(-5, 5),
        st.integers(0, 5),
        st.sampled_from([np.float32, np.float64, np.int32, np.int8]),
    ),
    st.just(spaces.Box(-np.inf, np.inf, (2,))),
    st.just(spaces.Box(np.array([-1, -np.inf], np.float32), np.array([2, 3], np.float32))),
    st.just(Symbols((4, 4, 2), (3, 5))),
    st.just(Pixels((16, 16, 3))),
    st.just(Tokens(7)),
)
SPACES: Any = st.recursive(
    LEAVES, lambda c: st.dictionaries(st.text(min_size=1, max_size=4), c, min_size=1).map(spaces.Dict)
)


@settings(max_examples=60, deadline=None)
@given(SPACES)
def test_codec_round_trip(space: gym.Space[Any]) -> None:
    back = from_json(json.loads(json.dumps(to_json(space))))
    assert back == space and type(back) is type(space)
    for a, b in zip(tree_leaves_of(space), tree_leaves_of(back)):
        assert type(a) is type(b) and a.dtype == b.dtype
    space.seed(1)
    sample = space.sample()
    flat = [leaf for leaf in tree_leaves_of(space) if not isinstance(leaf, Tokens)]
    if flat:
        assert flatten(space, encode(space, sample)).shape == (1, flat_size(space))


def tree_leaves_of(space: gym.Space[Any]) -> list[Any]:
    if isinstance(space, spaces.Dict):
        return [leaf for child in space.spaces.values() for leaf in tree_leaves_of(child)]
    return [space]


HUGE = {"space": "Box", "shape": [1 << 23], "dtype": "float32", "low": 0, "high": 1}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"space": "os.system"},
        {"space": "Box", "shape": [10**6, 10**6], "dtype": "float32", "low": 0, "high": 1},
        {"space": "Dict", "spaces": {"a": HUGE, "b": HUGE, "c": HUGE}},
        {"space": "Box", "shape": [2], "dtype": "object", "low": 0, "high": 1},
        {"space": "Box", "shape": [2], "dtype": "float32", "low": [0, 0, 0], "high": 1},
        {"space": "Box", "shape": [2], "dtype": "float32", "low": float("nan"), "high": 1},
        {"space": "Box", "shape": [-2], "dtype": "float32", "low": 0, "high": 1},
        {"space": "Discrete", "n": 10**30, "start": 0},
        {"space": "Discrete", "n": True, "start": 0},
        {"space": "Discrete", "n": "3", "start": 0},
        {"space": "Tokens", "length": 10**9, "vocabulary": ["a", "b", "c"], "by": "word"},
        {"space": "Symbols", "shape": [2, 2], "sizes": [1], "high": 255},
        {"space": "Dict", "spaces": [1]},
        {"space": "MultiBinary", "n": ["x"]},
    ],
)
def test_codec_refuses_hostile_descriptions(data: Any) -> None:
    with pytest.raises(ValueError):
        from_json(data)


def test_codec_refuses_depth() -> None:
    data: dict[str, Any] = {"space": "Discrete", "n": 2, "start": 0}
    for _ in range(20):
        data = {"space": "Dict", "spaces": {"a": data}}
    with pytest.raises(ValueError, match="deep"):
        from_json(data)
    with pytest.raises(TypeError, match="no place in a checkpoint"):
        to_json(spaces.Sequence(spaces.Discrete(2)))
