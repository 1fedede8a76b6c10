"""Captions of what happens, and ONI: labels in the background, by hand and to the bit."""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

import cairn  # noqa: F401
from cairn import runs
from cairn.agents import PPO
from cairn.agents.progress import summary
from cairn.envs.grid import layout as L
from cairn.shaping import ONI, RolloutSeat, Stretch, Task, World, parse
from cairn.shaping.language import Answer, FactCaptions, GridCaptions, Oracle, Question
from cairn.shaping.language.labels import (
    Judge,
    counted,
    features,
    joined,
    label_loss,
    label_slope,
    pair_loss,
    pair_slope,
)
from cairn.shaping.language.oni import CaptionReward
from cairn.shaping.laws import walk
from cairn.shaping.stretch import FactError

BIT = {name: 1 << i for i, name in enumerate(L.EVENT_NAMES)}


def grid_rows(*rows: tuple[int, tuple[int, int], tuple[int, int], int, int]) -> Stretch:
    """Events, carried before and after, and the third cell before and after."""
    n = len(rows)
    cells = [torch.full((n, 6), L.WALL_CELL, dtype=torch.int16) for _ in range(2)]
    for i, row in enumerate(rows):
        cells[0][i, 2], cells[1][i, 2] = row[3], row[4]

    def facts(k: int) -> dict[str, Tensor]:
        events = torch.tensor([r[0] if k else 0 for r in rows], dtype=torch.int32)
        held = torch.tensor([r[1 + k] for r in rows])
        return {"events": events, "carrying": held, "cells": cells[k], "mission_id": torch.ones(n, dtype=torch.int32)}

    no = torch.zeros(n, dtype=torch.bool)
    return Stretch.make(
        obs=torch.zeros(n), next_obs=torch.zeros(n), reward=torch.zeros(n), terminated=no, facts=facts(0),
        next_facts=facts(1),
    )  # fmt: skip


def test_captions_of_the_grid_by_hand() -> None:
    none, key = (-1, -1), (L.KEY, L.RED)
    door = [L.pack(L.DOOR, L.BLUE, state) for state in (L.OPEN, L.CLOSED, L.LOCKED)]
    box = L.pack(L.BOX, L.GREEN, contents=L.pack(L.KEY, L.RED))
    x = grid_rows(
        (0, none, none, L.EMPTY_CELL, L.EMPTY_CELL),
        (BIT["picked"], none, key, L.pack(*key), L.EMPTY_CELL),
        (BIT["dropped"], key, none, L.EMPTY_CELL, L.pack(*key)),
        (BIT["opened"], none, none, door[1], door[0]),
        (BIT["closed"], key, key, door[0], door[1]),
        (BIT["opened"] | BIT["unlocked"], (L.KEY, L.BLUE), (L.KEY, L.BLUE), door[2], door[0]),
        (BIT["unboxed"], none, none, box, L.contents(box)),
        (BIT["unboxed"], none, none, L.pack(L.BOX, L.GREEN), L.EMPTY_CELL),
        (BIT["goal"], key, key, L.EMPTY_CELL, L.EMPTY_CELL),
    )  # fmt: skip
    captions = GridCaptions(mission=False)
    codes = captions.codes(x)
    assert codes[0] == 0 and len(set(codes.tolist())) == 9
    texts = [captions.text(int(code), x[i : i + 1]) for i, code in enumerate(codes) if code]
    assert texts == [
        "You pick up a red key. You carry a red key.", "You put down a red key. You carry nothing.",
        "You open a blue door. You carry nothing.", "You close a blue door. You carry a red key.",
        "You unlock and open a blue door with your key. You carry a blue key.",
        "You open a box and find a red key. You carry nothing.", "You open a box and find nothing. You carry nothing.",
        "You reach the goal. You carry a red key.",
    ]  # fmt: skip
    assert torch.equal(captions.codes(x[3:5]), codes[3:5])


def test_captions_of_a_real_level() -> None:
    envs = gym.make_vec("cairn/MiniGrid-KeyCorridorS3R1-v0", num_envs=32, device="cpu")
    obs, info = envs.reset(seed=0)
    captions = GridCaptions()
    captions.bind(World(envs.single_observation_space, envs.single_action_space))
    torch.manual_seed(0)
    texts: set[str] = set()
    for _ in range(200):
        before = {k: v.clone() for k, v in info["facts"].items()}
        old = {k: v.clone() for k, v in obs.items()}
        obs, reward, terminated, truncated, info = envs.step(torch.randint(0, 6, (32,)))
        keep = ~(terminated | truncated)
        x = Stretch.make(
            obs=old, next_obs=obs, reward=reward, terminated=terminated, facts=before, next_facts=info["facts"]
        )[keep]
        codes = captions.codes(x)
        texts |= {captions.text(int(codes[i]), x[i : i + 1]) for i in codes.nonzero()[:, 0].tolist()}
    keys = [t for t in texts if "pick up a" in t and "key. You carry a" in t]
    assert keys and any("You open a" in t for t in texts)
    for text in texts:
        assert "The task: pick up the" in text and text.endswith("ball.")
        if text.startswith("You pick up a"):
            assert text.split(".")[0].removeprefix("You pick up ") in text.split(".")[1]


def test_captions_of_facts() -> None:
    world, x = walk(0)
    flat = x.flat()
    captions = FactCaptions("position", "carrying")
    codes = captions.codes(flat)
    still = (flat.facts["position"] == flat.next_facts["position"]).all(-1)
    still &= flat.facts["carrying"] == flat.next_facts["carrying"]
    assert torch.equal(codes == 0, still) and bool(
        (FactCaptions("position", only_changes=False).codes(flat) != 0).all()
    )
    row = int((~still).nonzero()[0, 0])
    where, held = flat.next_facts["position"][row].tolist(), bool(flat.next_facts["carrying"][row])
    told = captions.text(int(codes[row]), flat[row : row + 1])
    assert told == f"position: {where[0]} {where[1]}; carrying: {'yes' if held else 'no'}"
    with pytest.raises(FactError, match="no fact 'cells'"):
        GridCaptions().codes(without_cells())
    with pytest.raises(ValueError, match="name the facts"):
        FactCaptions()


def without_cells() -> Stretch:
    x = grid_rows((1, (-1, -1), (-1, -1), 1, 1))
    del x.facts["cells"], x.next_facts["cells"]
    return x


class Scripted:
    """Answers by a function of the caption, and remembers what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, list[str]()

    def ask(self, question: Question) -> Answer:
        text = question.messages[-1]["content"].split("The event: ")[-1].split("\n")[0]
        self.asked.append(text)
        said = self.answer(text)
        return said if isinstance(said, Answer) else Answer((said,), values=({"label": said},))


def row(values: list[int], starts: list[int] = [0]) -> Stretch:  # noqa: B006
    """One lane that walks through values of the fact "place", ``[T, 1]``; the values include the first state's."""
    steps = len(values) - 1
    facts = [{"place": torch.tensor(v)[:, None]} for v in (values[:-1], values[1:])]
    start = torch.zeros(steps, 1, dtype=torch.bool)
    start[starts] = True
    zero = torch.zeros(steps, 1)
    return Stretch.make(
        obs=zero, next_obs=zero, reward=zero, terminated=zero.bool(), start=start, facts=facts[0], next_facts=facts[1]
    )


WORLD = World(spaces.Box(0, 1, ()), spaces.Discrete(2), lanes=1)


def test_retrieval_by_hand() -> None:
    giver = Scripted(lambda text: "helpful" if text == "place: 2" else "not helpful")
    oni = ONI(giver, captions="place", schedule="barrier", every=10, workers=1)
    seat = RolloutSeat(oni, WORLD)
    x = row([0, 1, 2, 1, 2, 2, 3, 2])
    assert not seat(x, 7)[0].any()  # nobody has labelled anything
    seat.update(7)
    assert giver.asked == [] or set(giver.asked) <= {"place: 1", "place: 2", "place: 3"}
    seat(x[:1], 14)
    logs = seat.update(14)  # past the barrier
    assert sorted(giver.asked) == ["place: 1", "place: 2", "place: 3"] and logs["reward/labels/labelled"] == 3
    paid = seat(row([0, 1, 2, 1, 2, 2, 3, 2, 0, 2], [0, 8]), 21)[0].flatten()
    # The first, second and third 2; standing on it is no event. Then an episode of its own.
    assert paid.tolist() == pytest.approx([0, 1, 0, 1 / 8, 0, 0, 1 / 27, 0, 1])
    flat = ONI(giver, captions="place", power=0.0, schedule="barrier", every=1)
    again = RolloutSeat(flat, WORLD)
    for step in (1, 2):
        again(x, step)
        again.update(step)
    assert again(x, 3)[0].flatten().tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert len(giver.asked) == 6


def test_no_label_is_no_label() -> None:
    """Refused: never 0 and never asked again. Nobody there: asked again later. Nothing is trained on either."""
    script = {"place: 1": Answer(("no",), "refused"), "place: 2": Answer(outcome="error"), "place: 3": "not helpful"}
    giver = Scripted(lambda text: script[text])
    oni = ONI(giver, "classification", "place", schedule="barrier", every=1, retry=5, workers=1)
    seat = RolloutSeat(oni, WORLD)
    labels: Any = oni.inputs[0]
    for step in range(1, 5):
        seat(row([0, 1, 2, 3, 0]), step) if step < 3 else seat(row([0, 1, 2, 3]), step)
        script.setdefault("place: 0", "helpful")
        logs = seat.update(step)
    assert sorted(giver.asked) == ["place: 0", "place: 1", "place: 2", "place: 3"]
    assert sorted(labels.verdict.values()) == [-1.0, 0.0, 1.0] and labels.labelled == 2
    assert logs["reward/labels/refused"] == 1 and logs["reward/labels/error"] == 1
    script["place: 2"] = "helpful"
    for step in range(5, 12):
        seat(row([0, 1, 2, 3]), step)
        seat.update(step)
    assert sorted(giver.asked)[2:4] == ["place: 2", "place: 2"] and len(giver.asked) == 5 and labels.labelled == 3


def test_the_limit_of_labels() -> None:
    giver = Scripted(lambda text: "helpful")
    oni = ONI(giver, captions="place", schedule="barrier", every=1, limit=2)
    seat = RolloutSeat(oni, WORLD)
    for step in range(1, 5):
        seat(row([0, 1, 2, 3, 4, 5]), step)
        seat.update(step)
    assert len(giver.asked) == 2


def test_losses_by_hand() -> None:
    one, two = torch.tensor([1.0]), torch.tensor([0.0])
    assert float(pair_loss(one, two, torch.tensor([1.0]))) == pytest.approx(0.31326, abs=1e-4)  # log(1 + e^-1)
    assert float(pair_loss(one, two, torch.tensor([0.5]))) == pytest.approx(0.81326, abs=1e-4)
    assert float(label_loss(two, torch.tensor([1.0]))) == pytest.approx(0.69315, abs=1e-4)
    judge = Judge(torch.Generator().manual_seed(0))
    bags = [features(t) for t in ("You open a red door.", "a", "")]
    assert torch.allclose(judge(bags)[1:2], judge(bags[1:2])) and len(judge([])) == 0


def test_gradients_are_autograds() -> None:
    texts = ["You open a red door.", "You open a red box. You open it.", "a", "", "You carry nothing."]
    words, starts = joined([features(t) for t in texts])
    counts, used = counted(words, starts)
    assert counts.sum(1).tolist() == [len(features(t)) for t in texts] and used.tolist() == sorted(set(words.tolist()))
    assert counts[1].max() == 2, "a word that comes twice counts twice"
    label, preferred = torch.tensor([1.0, 0, 1, 0, 0]), torch.tensor([1.0, 0.5, 0.0])
    first, second = torch.tensor([0, 1, 4]), torch.tensor([2, 0, 0])
    slopes: list[Callable[[Tensor], Tensor]] = [
        lambda s: label_slope(s, label),
        lambda s: pair_slope(s, first, second, preferred),
    ]
    for ranking, slope in enumerate(slopes):
        judge = Judge(torch.Generator().manual_seed(0))
        score = judge.scores(words, starts)
        loss = pair_loss(score[first], score[second], preferred) if ranking else label_loss(score, label)
        loss.backward()  # type: ignore[no-untyped-call]
        expected = [p.grad.clone() for p in judge.parameters() if p.grad is not None]
        judge.zero_grad()
        assert torch.allclose(judge.backward(counts, used, slope), score.detach(), atol=1e-6) and len(expected) == 3
        for mine, theirs in zip([p.grad for p in judge.parameters()], expected):
            assert mine is not None and torch.allclose(mine, theirs, atol=1e-6)
        assert min(float(g.abs().max()) for g in expected[: 3 - ranking]) > 1e-3  # a bias is no difference


def test_captions_are_written_once_and_together() -> None:
    calls: list[list[int]] = []

    class Together(FactCaptions):
        def texts(self, codes: list[int], rows: Stretch) -> list[str]:
            assert len(codes) == len(rows.next_facts["place"])
            calls.append(codes)
            return [f"place {int(n)}" for n in rows.next_facts["place"]]

    oni = ONI(Scripted(lambda text: "helpful"), "classification", Together("place"), schedule="barrier", every=1)
    seat, labels = RolloutSeat(oni, WORLD), oni.inputs[0]
    assert isinstance(labels, CaptionReward)
    for step, x in enumerate((row([0, 1, 2, 1]), row([0, 2, 3, 4]), row([0, 5, 1, 6])), 1):
        seat(x, step)  # from the second on, the judge is asked of captions that are new, before any update
        seat.update(step)
    assert len(calls) == 3 and [len(codes) for codes in calls] == [2, 2, 2]
    assert list(labels.texts.values()) == [labels.texts[str(c)] for codes in calls for c in codes]
    assert set(labels.texts.values()) == {f"place {n}" for n in range(1, 7)}


def test_new_captions_are_judged_as_all_of_them_are() -> None:
    giver = Scripted(lambda text: "helpful" if text in ("place: 1", "place: 2") else "not helpful")
    oni = ONI(giver, "classification", "place", schedule="barrier", every=1, limit=3, learning_rate=1e-1)
    seat, labels = RolloutSeat(oni, WORLD), oni.inputs[0]
    assert isinstance(labels, CaptionReward)
    for step, x in enumerate((row([0, 1, 2, 3]), row([0, 1, 2, 3]), row([0, 9, 1, 8, 4]), row([0, 11, 12, 2])), 1):
        seat(x, step)
        seat.update(step)
    known, value = labels.known, labels.value
    assert len(known) == 8 and labels.labelled == 3 and torch.equal(known, known.sort().values)
    texts = [labels.texts[str(code)] for code in known.tolist()]
    assert value.tolist() == (labels.judge([features(text) for text in texts]) > 0).float().tolist()
    labels._refresh(True)
    assert torch.equal(labels.known, known) and torch.equal(labels.value, value)
    assert 2 <= int(value.sum()) < 8, "some pay, and some do not"


def test_classification_judges_captions_that_nobody_has_labelled() -> None:
    giver = Scripted(lambda text: "helpful" if "even" in text else "not helpful")

    class Parity(FactCaptions):
        def text(self, code: int, row: Stretch) -> str:
            n = int(row.next_facts["place"])
            return f"an {'even' if n % 2 == 0 else 'odd'} number, {n}"

    oni = ONI(giver, "classification", Parity("place"), schedule="barrier", every=1, power=0.0, learning_rate=1e-2)
    seat = RolloutSeat(oni, WORLD)
    for step in range(1, 9):
        seat(row([0, *range(2 * step, 2 * step + 6)]), step)
        seat.update(step)
    new = seat(row([0, 101, 102, 103, 104]), 99)[0].flatten()
    assert not any("102" in text for text in giver.asked) and new.tolist() == [0, 1, 0, 1]


def test_ranking_is_normalised_and_cut_at_the_median() -> None:
    """The published code computed this and then paid the raw value."""

    def rule(question: Question) -> Any:
        text = question.messages[-1]["content"]
        first, second = (int(text.split(f"The {w} event: place: ")[1].split("\n")[0]) for w in ("first", "second"))
        return {"better": "first" if first > second else "second"}

    oni = ONI(Oracle(rule), "ranking", "place", schedule="barrier", every=1, power=0.0, pairs=20, learning_rate=1e-2)
    seat = RolloutSeat(oni, WORLD)
    x = row([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    for step in range(1, 30):
        seat(x, step)
        seat.update(step)
    labels: Any = oni.inputs[0]
    with torch.no_grad():
        raw = labels.judge([features(f"place: {n}") for n in range(1, 10)])
    normal = (raw - raw.mean()) / raw.std()
    expected = torch.where(normal > normal.median(), normal, 0.0)
    paid = seat(x, 99)[0].flatten()
    assert torch.allclose(paid, expected, atol=1e-5) and int((paid != 0).sum()) == 4
    assert paid[5:].tolist() == sorted(paid[5:].tolist()) and paid[-1] > 0.5
    # A caption that is new moves the mean and the median, though no label comes with it.
    labels.limit = 0
    for step, stretch in ((100, x), (101, row([0, 30, 40, 50]))):
        seat(stretch, step)
        seat.update(step)
    with torch.no_grad():
        scores = labels.judge([features(text) for text in labels.texts.values()])
    assert len(labels.known) == len(labels.texts) == 12
    assert labels.centre == pytest.approx(float(scores.mean()), abs=1e-5)


def test_what_was_learned_is_in_the_state() -> None:
    giver = Scripted(lambda text: "helpful" if text > "place: 3" else "not helpful")
    for mode in ("retrieval", "classification"):
        seat, other = (
            RolloutSeat(ONI(giver, mode, "place", schedule="barrier", every=2, workers=1, learning_rate=0.1), WORLD)
            for _ in range(2)
        )
        for step in range(1, 4):
            seat(row([0, step, step + 1, step + 2, 5]), step)
            seat.update(step)
        other.load(copy.deepcopy(seat.state()))
        for step in range(4, 8):
            x = row([0, step, step + 1, 2, 5, 4])
            assert torch.equal(seat(x, step)[0], other(x, step)[0])
            seat.update(step)
            other.update(step)
        assert seat(x, 9)[0].any()


class Slow:
    """A giver in its own time: what arrives when is up to the scheduler."""

    def __init__(self, dead: bool = False) -> None:
        self.dead, self.asked = dead, 0

    def ask(self, question: Question) -> Answer:
        self.asked += 1
        if self.dead:
            return Answer(outcome="error", why="nobody is there")
        time.sleep(0.003)
        helpful = "pick up" in question.messages[-1]["content"].split("The task")[0]
        return Answer(("x",), values=({"label": "helpful" if helpful else "not helpful"},))

    def health(self) -> dict[str, float]:
        return {"server_up": float(not self.dead)}


def trained(giver: Any, journal: Path | None, steps: int = 4096) -> PPO:
    envs = gym.make_vec("cairn/MiniGrid-KeyCorridorS3R1-v0", num_envs=16, device="cpu")
    reward = Task() + 0.1 * ONI(giver, "classification", journal=journal)
    return PPO("MlpPolicy", envs, reward=reward, seed=0, n_steps=32, batch_size=128).learn(steps)


def test_a_run_is_replayed_bit_for_bit_without_a_server(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    once = trained(Slow(), path)
    dead = Slow(dead=True)
    again = trained(dead, path)
    assert len(path.read_text().splitlines()) == 8
    for a, b in zip(once.policy.parameters(), again.policy.parameters()):
        assert torch.equal(a, b)
    labels = [node for node in again.reward.order if node.name == "labels"][0]
    assert labels.labelled >= 5 and bool((labels.value > 0).any())  # and they were worth something
    assert labels.desk.counts["error"] == 0  # what is asked after the journal's end nobody answers any more


def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    def model() -> PPO:
        envs = gym.make_vec("cairn/MiniGrid-KeyCorridorS3R1-v0", num_envs=16, device="cpu")
        oni = ONI(Oracle(lambda q: {"better": "first"}), "ranking", schedule="barrier", every=1)
        return PPO("MlpPolicy", envs, reward=Task() + 0.1 * oni, seed=0, n_steps=32, batch_size=128)

    whole = model().learn(1024)
    runs.write_checkpoint(tmp_path / "at", {}, {"model": whole.training_state()})
    whole.learn(1024, reset_num_timesteps=False)
    resumed = model()
    resumed.load_training_state(runs.read_checkpoint(tmp_path / "at")[1]["model"])
    resumed.learn(1024, reset_num_timesteps=False)
    for a, b in zip(whole.policy.parameters(), resumed.policy.parameters()):
        assert torch.equal(a, b)
    labels = [[n for n in m.reward.order if n.name == "labels"][0] for m in (whole, resumed)]
    assert labels[0].labelled == labels[1].labelled > 20 and torch.equal(labels[0].value, labels[1].value)


def test_training_goes_on_without_a_server_and_says_so() -> None:
    model = trained(Slow(dead=True), None, 1500)
    row = {k: float(v) for k, v in model.logger.name_to_value.items() if isinstance(v, int | float)}
    down = {k: v for k, v in row.items() if k.endswith("server_up")}
    assert model.num_timesteps >= 1500 and down in ({}, {"reward/labels/server_up": 0.0})
    assert "labels" in summary({"reward/labels/server_up": 0.0, "rollout/ep_rew_mean": 0.5})
    assert "down" not in summary({"reward/labels/server_up": 1.0})


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ({"mode": "guess"}, {"power": -1.0}, {"limit": 0}, {"schedule": "soon"}):
        with pytest.raises(ValueError):
            ONI(Slow(), **bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="names of facts"):
        ONI(Slow(), captions=3)
    monkeypatch.delenv("CAIRN_LANGUAGE_URL", raising=False)
    with pytest.raises(ValueError, match="set CAIRN_LANGUAGE_URL"):
        parse("task + 0.1*oni(mode='ranking')")
    with pytest.raises(ValueError, match="texts in an expression"):
        parse("task + 0.1*oni('http://evil.example/v1')")


def test_a_server_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("httpx")
    monkeypatch.setenv("CAIRN_LANGUAGE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("CAIRN_LANGUAGE_MODEL", "m")
    text = 'task + 0.1*oni(mode="ranking", power=1.0)'
    assert parse(text).text == text


def test_codes_are_worked_out_once_for_what_pays_counts_and_asks() -> None:
    class Counting(FactCaptions):
        calls = 0

        def codes(self, x: Stretch) -> Tensor:
            self.calls += 1
            return super().codes(x)

    captions = Counting("position")
    term = ONI(Oracle(lambda question: {"label": "helpful"}), captions=captions, schedule="barrier", every=1)
    seat = RolloutSeat(term, World(gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2), lanes=1))
    paid = []
    for step, places in enumerate(([0, 1, 2], [2, 1, 0], [2, 1, 0]), 1):
        before = torch.tensor([places[0], *places[:-1]])[:, None, None]
        facts, after = {"position": before}, {"position": torch.tensor(places)[:, None, None]}
        zero = torch.zeros(3, 1)
        x = Stretch.make(obs=zero, next_obs=zero, reward=zero, terminated=zero.bool(), facts=facts, next_facts=after)
        x.valid = torch.tensor([[True], [True], [step != 3]])
        paid.append(seat(x, step)[0].flatten().tolist())
        seat.update(step)
        assert captions.calls == step  # the stretch of the step before is not taken for this one
    # What is seen in one step is asked about in its update, labelled in the next one, and paid from then on.
    assert paid[0] == paid[1] == [0, 0, 0] and paid[2][1] > 0 and paid[2][::2] == [0, 0]
    again = seat(x, 4)[0].flatten().tolist()
    still = x.map(torch.clone)
    still.facts = still.next_facts  # nothing changes: nothing to say
    assert again[1] > 0 and seat(still, 5)[0].flatten().tolist() == [0, 0, 0]  # no update in between
    reward: Any = term.inputs[0]
    assert reward.score(x)[1, 0] > 0
    x.facts = x.next_facts
    assert not reward.score(x).any()
