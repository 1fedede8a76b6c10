"""Crafter: upstream's game bit for bit, the same in every process, with facts that are true and ends that are right."""

import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import cairn.envs.crafter
from cairn.agents import PPO
from cairn.envs.crafter.symbols import CODES, FAR, MATERIALS, SYMBOLS
from cairn.shaping import Program, Task
from cairn.shaping.language.search import record
from cairn.shaping.programs.inputs import inputs_of

SMALL = {"area": (32, 32), "observation": "symbols"}
NOOP, LEFT, RIGHT, UP, DOWN, DO, SLEEP = range(7)


def one(name: str = "Crafter", **kwargs: Any) -> Any:
    pytest.importorskip("crafter")
    return gym.make(f"cairn/{name}-v0", disable_env_checker=True, **kwargs).unwrapped


def clearing(**kwargs: Any) -> Any:
    """The player on grass, alone in its world, looking right."""
    env = one(**{**SMALL, **kwargs})
    env.reset(seed=0)
    world, player = env.game.world, env.game.player
    for thing in list(world.objects):
        if thing is not player:
            world.remove(thing)
    world._mat_map[...] = CODES["grass"]
    world.daylight = 1.0
    player.facing = (1, 0)
    return env


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crafter", None)
    monkeypatch.delitem(sys.modules, "cairn.envs.crafter.upstream", raising=False)
    monkeypatch.delattr(cairn.envs.crafter, "upstream", raising=False)
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ImportError, match=r"cairn-rl\[crafter\]"):
            make("cairn/Crafter-v0")


def test_a_single_one_conforms() -> None:
    check_env(one(render_mode="rgb_array", area=(16, 16)), skip_render_check=True)


def test_an_episode_is_upstream_s() -> None:
    """Pictures, rewards and ends of ``crafter.Env``, but for the order of its sets, which nobody can tell."""
    crafter = pytest.importorskip("crafter")
    from cairn.envs.crafter import upstream

    env = one()
    for episode in range(2):
        obs, info = env.reset(seed=3 if episode == 0 else None)
        twin = crafter.Env(seed=info["level"])
        twin._world.__class__ = upstream._World
        assert np.array_equal(obs, twin.reset()) and obs.shape == env.observation_space.shape == (64, 64, 3)
        draw, paid = np.random.default_rng(episode), 0.0
        for t in range(320):  # into the night, whose noise in the picture takes random numbers
            action = int(draw.choice([LEFT, RIGHT, UP, DOWN, DO, DO, SLEEP] if t < 200 else 17))
            obs, reward, terminated, truncated, info = env.step(action)
            theirs, their_reward, done, told = twin.step(action)
            assert np.array_equal(obs, theirs) and reward == their_reward and terminated == bool(done) and not truncated
            assert np.array_equal(info["semantic"], told["semantic"]) and info["achievements"] == told["achievements"]
            paid += abs(reward)
            if done:
                break
        assert paid > 1, "an achievement and some health"


def test_creatures_of_a_chunk_come_in_the_order_in_which_they_came() -> None:
    env = one(observation="symbols")
    env.reset(seed=1)
    world = env.game.world
    chunks = list(world.chunks.values())
    assert max(map(len, chunks)) > 3
    for chunk in chunks:
        assert list(chunk) == [thing for thing in world.objects if thing in chunk]
    first, second, *_ = chunk = max(chunks, key=len)
    chunk.remove(first)
    chunk.add(first)
    assert list(chunk)[0] is second and list(chunk)[-1] is first


def test_the_same_seed_is_the_same_run_and_levels_come_again() -> None:
    first, second, other = one(**SMALL), one(**SMALL), one(**SMALL, worlds=2)
    draw = np.random.default_rng(0)
    actions = draw.integers(17, size=400).tolist()
    for env in (first, second):
        env.reset(seed=5)
    (junk,) = ([object() for _ in range(10_000)],)
    for action in actions:
        a, b = first.step(action), second.step(action)
        assert np.array_equal(a[0], b[0]) and a[1:4] == b[1:4] and a[4]["facts"] == b[4]["facts"]
        if a[2]:
            assert np.array_equal(first.reset()[0], second.reset()[0])
    del junk
    levels = [other.reset(seed=5 if k == 0 else None)[1]["level"] for k in range(12)]
    assert len(set(levels)) == 2 and len({first.reset()[1]["level"] for _ in range(5)}) == 5
    lanes = {other.reset(seed=5, options={"lane": lane})[1]["level"] for lane in range(12)}
    assert lanes == set(levels), "all lanes of a seed share its worlds"
    assert not set(levels) & {other.reset(seed=6, options={"lane": lane})[1]["level"] for lane in range(6)}


def test_a_world_of_a_set_comes_mirrored_with_all_that_is_in_it() -> None:
    for area, forms in (((24, 24), 8), ((24, 32), 4)):
        env, seen = one(worlds=1, area=area, observation="symbols"), {}
        env.reset(seed=0)
        env.game.begin(env.game.level)
        made, creatures = env.game.world._mat_map.copy(), env.game.world._obj_map > 0
        both = made.astype(int) + 100 * creatures
        for turn in range(8):
            env.game.begin(env.game.level, turn)
            world = env.game.world
            now = world._mat_map.astype(int) + 100 * (world._obj_map > 0)
            seen[now.tobytes()] = now
            assert now.shape == area and sorted(now.ravel()) == sorted(both.ravel())
        rights = [np.rot90(m, k) for m in (both, both.T) for k in range(4)]
        assert len(seen) == forms and all(any(np.array_equal(now, r) for r in rights) for now in seen.values())
    lives = set()
    for _ in range(4):
        env.reset()
        lives.add(int(env.game.world.random.randint(1 << 30)))
    assert len(lives) == 4, "what happens in it is drawn anew"


def test_a_world_that_was_kept_is_as_when_it_was_made() -> None:
    from_memory = one("CrafterDiamond")
    seen = []
    for clear in (True, False):
        if clear:
            from cairn.envs.crafter import upstream

            upstream._worlds.clear()
        from_memory.reset(seed=2)
        seen.append([from_memory.step(action)[4]["facts"] for action in [RIGHT, DO, UP, DO, LEFT, DO, DOWN] * 2])
    assert seen[0] == seen[1]


def test_looking_changes_nothing_even_at_night() -> None:
    shown, plain = (one(**SMALL, render_mode=mode) for mode in ("rgb_array", None))
    for env in (shown, plain):
        env.reset(seed=0)
        env.game._step = 180
    nights = 0
    for action in [DOWN, NOOP, UP, DO] * 10:
        a, b = shown.step(action), plain.step(action)
        assert np.array_equal(a[0], b[0]) and a[4]["facts"] == b[4]["facts"]
        nights += plain.game.world.daylight < 0.5
        assert shown.render().shape == (576, 576, 3)
    assert nights > 20, "whose noise takes random numbers"


def test_facts_and_symbols_tell_what_is_there() -> None:
    env = clearing()
    world, player = env.game.world, env.game.player
    x, y = (int(n) for n in player.pos)
    from crafter import constants, objects

    assert tuple(constants.materials) == MATERIALS
    world[(x + 1, y)] = "stone"
    world[(x - 4, y + 3)] = world[(x - 3, y + 1)] = "lava"
    world[(x + 5, y)] = "diamond"  # one tile out of view
    world.add(objects.Zombie(world, (x, y - 2), player))
    world.add(objects.Arrow(world, (x - 2, y), (1, 0)))
    player.inventory.update(wood=3, iron_pickaxe=1)
    player.achievements["collect_wood"] = 1
    from cairn.envs.crafter.symbols import Look

    look = Look(env.game)
    facts, seen = look.facts(), look.symbols()[:, :, 0]
    assert facts["position"] == (x, y) and facts["direction"] == 0 and facts["facing"] == CODES["stone"]
    near = {name: facts[f"to_{name}"] for name in ("lava", "diamond", "zombie", "arrow", "tree")}
    assert near == {"lava": 4, "diamond": FAR, "zombie": 2, "arrow": 2, "tree": FAR}
    assert facts["pack"] == (0, 3, 0, 0, 0, 0) and facts["tools"] == (0, 0, 1, 0, 0, 0)
    assert [k for k, is_true in enumerate(facts["unlocked"]) if is_true] == [6]
    shown = {SYMBOLS[seen[row, col]]: (row, col) for row in range(7) for col in range(9) if seen[row, col] != 2}
    assert shown == {"player right": (3, 4), "stone": (3, 5), "lava": (6, 0), "zombie": (1, 4), "arrow right": (3, 2)}
    assert seen[7].tolist() == [9, 9, 9, 9, 0, 3, 0, 0, 0] and seen[8].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 9]
    player.facing = (0, -1)
    world.move(player, (x, y - 1))
    assert Look(env.game).facts()["facing"] == CODES["zombie"], "what stands on the tile hides it"
    world.move(player, (0, 0))
    corner = Look(env.game)
    assert (corner.symbols()[:3, :, 0] == 0).all() and (corner.symbols()[:7, :4, 0] == 0).all()
    assert corner.facts()["facing"] == CODES["nothing"] and corner.facts()["direction"] == 3


def test_what_a_player_dies_of() -> None:
    def ends(prepare: Any, action: int = NOOP) -> tuple[bool, str, int]:
        env = clearing(facts="death")
        prepare(env.game.world, env.game.player)
        for _ in range(40):
            *_, terminated, truncated, info = env.step(action)
            assert not truncated and (info["facts"]["death"] > 0) == terminated == ("died_of" in info)
            if terminated:
                with pytest.raises(gym.error.ResetNeeded):
                    env.step(NOOP)
                return info["facts"]["to_lava"] == 0, info["died_of"], info["facts"]["death"]
        raise AssertionError("it lives")

    objects = pytest.importorskip("crafter").objects

    def lava(world: Any, player: Any) -> None:
        world[player.pos + (1, 0)] = "lava"

    def zombie(world: Any, player: Any) -> None:
        player.health = 2
        world.add(objects.Zombie(world, player.pos + (0, 1), player))

    def arrow(world: Any, player: Any) -> None:
        player.health = 2
        world.add(objects.Arrow(world, player.pos - (3, 0), (1, 0)))

    def need(name: str) -> Any:
        def prepare(world: Any, player: Any) -> None:
            player.health, player.inventory[name], player._recover = 1, 0, -14.0

        return prepare

    assert ends(lava, RIGHT) == (True, "lava", 1)
    assert ends(zombie) == (False, "zombie", 2) and ends(arrow) == (False, "arrow", 3)
    assert ends(need("food")) == (False, "hunger", 4) and ends(need("drink")) == (False, "thirst", 5)
    assert ends(need("energy")) == (False, "tiredness", 6)


def test_only_the_goal_pays_and_ends_it() -> None:
    env = clearing(goal="collect_diamond", items={"iron_pickaxe": 1})
    world, player = env.game.world, env.game.player
    world[player.pos + (1, 0)] = "tree"
    assert env.step(DO)[1:4] == (0.0, False, False) and player.inventory["wood"] == 1, "wood is not the goal"
    world[player.pos + (1, 0)] = "diamond"
    obs, reward, terminated, truncated, info = env.step(DO)
    assert (reward, terminated, truncated) == (1.0, True, False) and info["facts"]["success"]
    assert env.observation_space.contains(obs) and "died_of" not in info
    assert "success" not in clearing().step(NOOP)[4]["facts"], "upstream's task is a score"


def test_achievements_pay_unless_nothing_does() -> None:
    for name, pays in (("Crafter", 1.0), ("CrafterNoReward", 0.0)):
        env = one(name, **SMALL)
        env.reset(seed=0)
        env.game.world[env.game.player.pos + env.game.player.facing] = "tree"
        assert env.step(DO)[1] == pays


def test_time_cuts_it_off_and_is_no_end() -> None:
    pytest.importorskip("crafter")
    assert gym.spec("cairn/Crafter-v0").max_episode_steps == 10_000
    batch: Any = gym.make_vec("cairn/CrafterDiamond-v0", num_envs=2, max_episode_steps=3)
    batch.reset(seed=0)
    for t in range(3):
        *_, terminated, truncated, info = batch.step(torch.zeros(2, dtype=torch.int64))
        assert not terminated.any() and bool(truncated.all()) == (t == 2)
    assert batch.max_steps == 3 and not info["final_facts"]["success"].any()


def test_underground_is_near_a_diamond_and_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    env = one("CrafterDiamond")
    for seed in range(4):
        env.reset(seed=seed)
        world, player = env.game.world, env.game.player
        assert world[player.pos][0] == "path" and player.inventory["iron_pickaxe"] == 1
        for name, (least, most) in (("diamond", (2, 5)), ("lava", (2, 5))):
            there = np.argwhere(world._mat_map == CODES[name])
            assert least <= np.abs(there - player.pos).sum(1).min() <= most
    monkeypatch.setattr("cairn.envs.crafter.upstream._TRIES", 5)
    tiny = one("CrafterDiamond", area=(12, 12))
    with pytest.raises(RuntimeError, match="larger"):
        tiny.reset(seed=0)


def test_bad_arguments_say_what_there_is() -> None:
    for wrong in (
        {"goal": "collect_gold"}, {"observation": "pixels"}, {"start": "sky"}, {"items": {"gold": 1}},
        {"items": {"wood": 10}}, {"area": (4, 64)}, {"area": (64,)}, {"worlds": 0}, {"facts": "cause"},
        {"render_mode": "human"},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            one(**wrong)
    env = one(**SMALL)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="0 to 16"):
        env.step(17)
    with pytest.raises(ValueError, match="lane"):
        env.reset(seed=0, options={"lane": -1})


def test_a_program_reads_the_facts_and_ppo_trains_on_it() -> None:
    pytest.importorskip("crafter")
    batch: Any = gym.make_vec("cairn/CrafterDiamond-v0", num_envs=4, worlds=2, facts=("death",), max_episode_steps=16)
    recorded = record(batch, seed=0)
    assert recorded.knows_success and len(recorded) == 4
    told = {i.name: i.doc for i in inputs_of(recorded.x)}
    assert all(told[name] for name in recorded.x.facts), "every fact has a meaning for the prompt"
    listed = told["facing"].split(": ")[1].split(", ")
    for said in listed:
        if "to" not in said.split():
            number, name = said.split(" ", 1)
            assert SYMBOLS[int(number)] == name
    text = "def reward(to_diamond, next_to_diamond):\n    return 1.0 * (to_diamond > next_to_diamond)"
    near = Program.in_process(text)
    model = PPO("MlpPolicy", batch, reward=Task() + near, n_steps=16, batch_size=32, n_epochs=1, seed=0).learn(64)
    assert model.num_timesteps == 64
