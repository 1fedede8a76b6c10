"""When pictures are looked at, what is remembered, and what reaches agents: with a tiny model, without transformers."""

import copy
import sqlite3
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from cairn.agents import DQN, PPO
from cairn.envs import EpisodeStatistics, TimeLimit, from_gymnasium
from cairn.shaping import ShapedReward, Task, VLMPotential, VLMReward, as_reward, parse
from cairn.shaping.laws import check_term
from cairn.shaping.stretch import FactError, Stretch
from cairn.shaping.vision import Sight, SightEnv, TextCache, embed_texts
from cairn.shaping.vision.sight import view

from .eyes import STEP, Eyes, Walk, true_score, walks

GO, END, CUT = 0, 1, 2


def term(eyes: Eyes | None = None, **kwargs: Any) -> VLMReward:
    return VLMReward("right", "left", model=eyes or Eyes(), **kwargs)


def at(t: int, lane: int = 0) -> float:
    return true_score(STEP * t + 100 * lane)


def close(found: Any, *expected: float) -> bool:
    return torch.allclose(torch.as_tensor(found).float(), torch.tensor(expected), atol=1e-5)


def test_the_last_state_is_seen_before_the_reset() -> None:
    """The authors' code scores the next episode's first picture here."""
    eyes = Eyes()
    reward = term(eyes, fact="right")
    env = reward.around(walks())
    facts = env.reset(seed=0)[1]["facts"]
    assert close(facts["right"], at(0), at(0, 1))
    for actions, last, now in (
        ([GO, GO], None, (at(1), at(1, 1))),
        ([GO, END], (at(2), at(2, 1)), (at(2), at(0, 1))),
        ([CUT, GO], (at(3), at(1, 1)), (at(0), at(1, 1))),
    ):
        info = env.step(actions)[4]
        assert close(info["facts"]["right"], *now)
        if last is not None:
            assert close(
                info["final_facts"]["right"][info["_final_obs"]], *torch.tensor(last)[info["_final_obs"]].tolist()
            )
    assert eyes.seen == [2, 2, 3, 3], "one batch a step: what is new, and last pictures"


def test_a_sharp_score_by_hand() -> None:
    before, after = torch.tensor([0.5, 1.0, -1.0]), torch.tensor([1.0, 0.75, -1.0])
    zero = torch.zeros(3)
    x = Stretch.make(
        obs=zero,
        next_obs=zero,
        reward=zero,
        terminated=zero.bool(),
        facts={"right": before},
        next_facts={"right": after},
    )
    sharp = [1.0, 0.36787945, 0.00033546263]  # exp of 0, -1 and -8
    assert close(term(fact="right", sharpness=4).score(x), *sharp)
    was = [0.13533528, 1.0, 0.00033546263]
    grown = term(fact="right", sharpness=4, mode="difference").score(x)
    assert close(grown, *(a - b for a, b in zip(sharp, was)))
    assert close(term(fact="right", sharpness=0).score(x), *after.tolist()), "left out, the score as it is"
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="sharpness"):
            term(sharpness=wrong)


def test_every_k_steps_by_each_lanes_own_clock() -> None:
    eyes = Eyes()
    env = term(eyes, every=3, fact="right").around(walks())
    env.reset(seed=0)
    seen, finals = [], []
    for actions in ([GO, GO], [GO, CUT], [GO, GO], [GO, GO], [GO, GO], [GO, GO]):
        info = env.step(actions)[4]
        seen.append(info["facts"]["right"].clone())
        finals.append(info["final_facts"]["right"].clone())
    # Lane 1 was cut at its step 2, and begins to count anew; in between the last look holds.
    expected = [(0, 0), (0, 0), (3, 0), (3, 0), (3, 3), (6, 3)]
    for scores, (a, b) in zip(seen, expected):
        assert close(scores, at(a), at(b, 1))
    assert close(finals[1][1], at(2, 1)), "the true last state, although step 2 is no third one"
    assert eyes.seen == [2, 2, 1, 1, 1] and env.looked == 7


@pytest.mark.parametrize("every", [1, 2])
def test_a_time_limit_around_or_inside_makes_no_difference(every: int) -> None:
    inside = term(every=every, fact="right").around(TimeLimit(walks(), 3))
    outside = TimeLimit(term(every=every, fact="right").around(walks()), 3)
    for env in (inside, outside):
        env.reset(seed=0)
    for _ in range(7):
        a, b = (env.step([GO, GO])[4] for env in (inside, outside))
        done = a["_final_obs"]
        assert torch.equal(a["facts"]["right"], b["facts"]["right"]) and torch.equal(done, b["_final_obs"])
        if every == 1:  # a limit outside knows the last state too late for a look that was not due
            assert torch.equal(a["final_facts"]["right"][done], b["final_facts"]["right"][done])


def shaped(expr: Any, actions: list[int], gamma: float | None = None) -> list[float]:
    env = ShapedReward(walks(1), expr, gamma=gamma)
    env.reset(seed=0)
    return [float(env.step([a])[1][0]) for a in actions]


def test_score_difference_and_potential_by_hand() -> None:
    actions = [GO, GO, END, GO, CUT]
    assert close(shaped(term(), actions), at(1), at(2), at(3), at(1), at(2))
    gains = [at(1) - at(0), at(2) - at(1), at(3) - at(2), at(1) - at(0), at(2) - at(1)]
    assert close(shaped(term(mode="difference"), actions), *gains)
    g = 0.9
    potential = VLMPotential("right", "left", model=Eyes())
    paid = shaped(potential, actions, g)
    assert close(paid, g * at(1) - at(0), g * at(2) - at(1), 0 - at(2), g * at(1) - at(0), g * at(2) - at(1))
    # It telescopes: -phi(s0) where the episode terminated, gamma^n phi(s_n) - phi(s_0) where it was cut.
    assert sum(g**i * r for i, r in enumerate(paid[:3])) == pytest.approx(-at(0), abs=1e-5)
    assert sum(g**i * r for i, r in enumerate(paid[3:])) == pytest.approx(g**2 * at(2) - at(0), abs=1e-5)


@pytest.mark.parametrize("every", [2, 3, 5])
def test_it_telescopes_whatever_is_seen(every: int) -> None:
    g, actions = 0.9, [GO, GO, GO, CUT, GO, GO, END]
    paid = shaped(VLMPotential("right", "left", model=Eyes(), every=every), actions, g)
    assert sum(g**i * r for i, r in enumerate(paid[:4])) == pytest.approx(g**4 * at(4) - at(0), abs=1e-5)
    assert sum(g**i * r for i, r in enumerate(paid[4:])) == pytest.approx(-at(0), abs=1e-5)
    gains = shaped(term(mode="difference", every=every), actions)
    assert sum(gains[:4]) == pytest.approx(at(4) - at(0), abs=1e-5)


def test_a_single_environment_and_a_bridge_see_the_same() -> None:
    actions = [GO, GO, END, GO, CUT]
    for every in (1, 2):
        env = ShapedReward(Walk(), term(every=every))
        env.reset(seed=0)
        found = []
        for a in actions:
            found.append(env.step(a)[1])
            if a != GO:
                env.reset()
        assert close(found, *shaped(term(every=every), actions))
    eyes = Eyes()
    inside = from_gymnasium(lambda lane: SightEnv(Walk(lane), eyes, {"right": view(eyes, "right", "left")}), 2)
    inside.reset(seed=0)
    info = inside.step([GO, END])[4]
    assert close(info["facts"]["right"], at(1), at(0, 1)) and close(info["final_facts"]["right"][1], at(1, 1))


def test_facts_of_minigrid_stay_beside_it() -> None:
    eyes = Eyes()
    env = ShapedReward(gym.make("cairn/MiniGrid-Empty-5x5-v0", render_mode="rgb_array"), Task() + term(eyes))
    env.reset(seed=0)
    env.step(0)
    assert set(env._facts) > {"position", term(eyes).fact}


def test_terms_of_one_model_look_once() -> None:
    eyes = Eyes()
    reward = as_reward(term(eyes) + VLMPotential("left", "right", model=eyes) + term(eyes, alpha=1.0))
    env = reward.around(EpisodeStatistics(walks()))
    assert type(env) is Sight and len(env.views) == 3 and not isinstance(env.env, Sight)
    env.reset(seed=0)
    env.step([GO, GO])
    assert eyes.seen == [2, 2]
    assert reward.around(env) is env
    other = Eyes()
    other.digest = "eyes-2"  # type: ignore[misc]
    two = as_reward(term(eyes, fact="one") + term(other, fact="two")).around(walks())
    assert set(two.reset(seed=0)[1]["facts"]) >= {"one", "two"}
    with pytest.raises(ValueError, match="one schedule of pictures"):
        as_reward(term(eyes) + term(eyes, every=2, fact="other")).around(walks())
    with pytest.raises(ValueError, match="each once"):
        Sight(env, eyes, dict(list(env.views.items())[:1]))


@pytest.mark.parametrize("agent", [PPO, DQN])
def test_agents_see_to_it(agent: Any) -> None:
    kwargs: dict[str, Any] = {"n_steps": 8} if agent is PPO else {"learning_starts": 8, "buffer_size": 64}
    model = agent("MlpPolicy", TimeLimit(walks(), 5), reward=Task() + 0.1 * term(every=2), seed=0, **kwargs)
    model.learn(64)
    assert isinstance(model.batch, Sight) and model.batch.looked > 20
    model.set_env(TimeLimit(walks(), 4))
    assert isinstance(model.batch, Sight)


def test_what_ppo_is_paid_is_the_score_of_the_true_next_state() -> None:
    model = PPO("MlpPolicy", TimeLimit(walks(), 3), reward=term(), seed=0, n_steps=7)
    model.learn(14)
    rollout = model.rollout
    x = rollout.next_facts[term().fact]
    steps = rollout.next_obs[..., 0]
    expected = torch.tensor([[at(int(t), lane) for lane, t in enumerate(row)] for row in steps.tolist()])
    assert torch.allclose(x, expected, atol=1e-5) and int(steps.max()) > 1


@pytest.mark.parametrize("every", [1, 3])
def test_a_resumed_run_is_the_same_run(every: int) -> None:
    def fresh() -> Any:
        expr = Task() + VLMPotential("right", "left", model=Eyes(), every=every)
        return PPO("MlpPolicy", TimeLimit(walks(), 7), reward=expr, seed=0, n_steps=4)

    whole = fresh()  # a constructor seeds all that is drawn, so one after the other
    whole.learn(60)
    first = fresh()
    first.learn(30)
    state = copy.deepcopy(first.training_state())
    second = fresh()
    second.learn(10)  # somewhere else
    second.batch.held.fill_(9.0)
    second.load_training_state(state)
    second.learn(30, reset_num_timesteps=False)
    for a, b in zip(whole.policy.parameters(), second.policy.parameters()):
        assert torch.equal(a, b)
    assert torch.equal(whole.batch.held, second.batch.held)


def test_states_of_other_models_are_refused() -> None:
    env = term(fact="right").around(walks())
    env.reset(seed=0)
    state = env.state_dict()
    again = term(fact="right").around(walks())
    again.held.fill_(9.0)
    again.load_state_dict(state)
    assert torch.equal(again.held, env.held) and torch.equal(again.observe()[1]["facts"]["right"], env.held[0])
    other = Eyes()
    other.digest = "eyes-2"  # type: ignore[misc]
    with pytest.raises(ValueError, match="its files have changed"):
        term(other, fact="right").around(walks()).load_state_dict(state)
    with pytest.raises(ValueError, match="wrapped otherwise"):
        env.load_state_dict(TimeLimit(walks(), 3).state_dict())


def test_observe_and_partial_resets() -> None:
    env = term(fact="right", every=4).around(walks())
    env.reset(seed=0)
    env.step([GO, GO])
    before = env.observe()[1]["facts"]["right"]
    info = env.reset(options={"reset_mask": torch.tensor([True, False])})[1]
    assert close(before, at(0), at(0, 1)) and close(info["facts"]["right"], at(0), at(0, 1))
    handed = env.step([GO, GO])[4]["facts"]["right"]
    kept = handed.clone()
    env.step([END, END])
    assert torch.equal(handed, kept), "what was handed out stays as it is"


def test_texts_are_asked_once(tmp_path: Path) -> None:
    eyes = Eyes()
    cache = TextCache(tmp_path / "texts.sqlite")
    first = embed_texts(eyes, ["left", "right", "left"], cache)
    again = embed_texts(eyes, ["right", "up"], TextCache(tmp_path / "texts.sqlite"))
    assert eyes.asked == ["left", "right", "up"] and torch.equal(first[1], again[0]) and torch.equal(first[0], first[2])
    other = Eyes()
    other.digest = "another"  # type: ignore[misc]
    embed_texts(other, ["left"], cache)
    assert other.asked == ["left"], "another model's embeddings are its own"
    assert copy.deepcopy(cache) is cache
    cache.close()
    for bad in ([], [""], ["  "], [1]):
        with pytest.raises(ValueError, match="prompts are texts"):
            embed_texts(eyes, bad)  # type: ignore[arg-type]
    (tmp_path / "no.sqlite").write_text("this is no database, but some text that is long enough")
    with pytest.raises(ValueError, match="move it away"):
        TextCache(tmp_path / "no.sqlite")
    with pytest.raises(ValueError, match="does not exist"):
        TextCache(tmp_path / "nowhere" / "texts.sqlite")
    with sqlite3.connect(tmp_path / "other.sqlite") as db:
        db.execute("CREATE TABLE people (name TEXT)")
    with pytest.raises(ValueError, match="another kind"):
        TextCache(tmp_path / "other.sqlite")


def test_terms_as_text() -> None:
    text = 'task + 0.1*vlm_reward("a robot that kneels", "a robot", 0.5, "small", mode="difference", every=4)'
    read = parse(text)
    assert as_reward(read).text == as_reward(parse(as_reward(read).text or "")).text
    assert as_reward(read).pictures and not as_reward("task").pictures
    several = parse('vlm_potential(("kneeling", "on its knees"), "standing", model="small")')
    assert several.goal == ("kneeling", "on its knees") and several.alpha == 0.5  # type: ignore[attr-defined]
    assert term().text is None, "an object cannot be written"
    assert (
        VLMReward("a", model="small").fact == VLMReward("a", model="small").fact != VLMReward("b", model="small").fact
    )


def test_what_cannot_be() -> None:
    for kwargs, match in (
        ({"baseline": "right"}, "goal and baseline are both"),
        ({"alpha": 0.5}, "give baseline="),
        ({"baseline": "left", "alpha": 2.0}, "between 0"),
        ({"mode": "potential"}, "VLMPotential"),
        ({"every": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=match):
            VLMReward("right", **kwargs)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an embedder"):
        VLMReward("right", model=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="same to this model"):
        VLMReward("right", "Right!", model=Eyes()).around(walks())
    with pytest.raises(ValueError, match='render_mode="rgb_array"'):
        term().around(walks(render_mode=None))
    with pytest.raises(ValueError, match='render_mode="rgb_array"'):
        ShapedReward(Walk(render_mode=None), term())
    with pytest.raises(FactError, match="nobody has looked"):
        check_term(lambda: term())


def test_half_seen_pictures_do_not_reach_training() -> None:
    class Blind(Eyes):
        def images(self, frames: torch.Tensor) -> torch.Tensor:
            return torch.full((len(frames), 3), torch.nan)

    env = ShapedReward(walks(1), term(Blind()))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="gave nan"):
        env.step(np.array([0]))
