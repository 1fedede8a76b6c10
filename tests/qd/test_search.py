"""The searches: what survives, what they spend, broken results, and coming back bit for bit."""

from importlib.util import find_spec

import pytest
import torch

from cairn.envs.areas.make import make_vec
from cairn.qd import ALGORITHMS, MLP, Evaluated, Evaluator, Problem, Search, run_together
from cairn.qd.emitters import CMAES, Elitist, Emitter
from cairn.qd.evolution import novelty_search, nsga2
from cairn.qd.serene import serene
from cairn.qd.table import find

NEEDS_RIBS = {"map-elites", "cma-me", "cma-ns"}
NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(name in NEEDS_RIBS and find_spec("ribs") is None, reason="needs ribs"))
    for name, entry in ALGORITHMS.items()
    if not entry.frames and not entry.gradients
]


def problem(seed=0, size=4):
    return Problem(size, torch.zeros(2), torch.ones(2), seed=seed)


def plane(genomes, broken=0.0):
    """The outcome is a squashed corner of the genome; two areas pay. A share of results is broken, by their genome."""
    measures = torch.sigmoid(genomes[:, :2])
    away = torch.stack([(measures - torch.tensor(c)).norm(dim=-1) for c in ((0.8, 0.8), (0.2, 0.7))], -1)
    worth, area = ((0.15 - away) / 0.15).clamp_min(0).max(-1)
    area = torch.where(worth > 0, area, -1)
    bad = (genomes[:, 2] * 1000).frac().abs() < broken
    objective = torch.where(bad, torch.nan, worth)
    return Evaluated(genomes, objective, measures, area, torch.full_like(area, 5), ~bad)


@pytest.mark.parametrize("name", NAMES)
def test_every_search_runs_and_comes_back(name):
    whole, first = (Search(name, problem(1), areas=2) for _ in range(2))
    while whole.evaluations < 6000:
        whole.tell(plane(whole.ask(), broken=0.05))
    while first.evaluations < 3000:
        first.tell(plane(first.ask(), broken=0.05))
    first.state_dict()
    first.tell(plane(first.ask(), broken=0.05))  # a log that was saved goes on
    state = first.state_dict()
    second = Search(name, problem(1), areas=2)
    second.load_state_dict(state)
    assert second.evaluations == first.evaluations
    while second.evaluations < 6000:
        second.tell(plane(second.ask(), broken=0.05))
    assert second.state_dict()["digest"] == whole.state_dict()["digest"]
    for key, value in second.grid.state_dict().items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(whole.grid.state_dict()[key]))
    assert torch.isfinite(whole.grid.elites()["objective"]).all() and whole.grid.occupied.any()
    assert torch.equal(second.ask(), whole.ask())


@pytest.mark.parametrize("name", NAMES)
def test_all_results_broken_stops_nobody(name):
    search = Search(name, problem())
    for _ in range(3):
        search.tell(plane(search.ask(), broken=2.0))
    spent = search.evaluations
    while search.evaluations < spent + 1400:
        search.tell(plane(search.ask()))
    assert search.grid.occupied.any()


def test_seeds_differ():
    a, b = (Search("ns", problem(seed)) for seed in (1, 2))
    assert not torch.equal(a.ask(), b.ask())


def test_a_log_that_does_not_fit_is_refused():
    search = Search("ns", problem(1))
    for _ in range(3):
        search.tell(plane(search.ask()))
    state = search.state_dict()
    with pytest.raises(ValueError, match="other genomes"):
        Search("ns", problem(2)).load_state_dict(state)
    with pytest.raises(ValueError, match="other genomes"):
        Search("ns", problem(1), {"population": 50}).load_state_dict(state)
    with pytest.raises(ValueError, match="one length"):
        log = {**state["log"], "objective": state["log"]["objective"][:-1]}
        Search("ns", problem(1)).load_state_dict({**state, "log": log})
    with pytest.raises(RuntimeError, match="new search"):
        search.load_state_dict(state)
    with pytest.raises(ValueError, match="came back"):
        search.tell(plane(search.ask()[:-1]))


def test_options_are_checked():
    with pytest.raises(ValueError, match="did you mean 'serene'"):
        find("seren", {})
    with pytest.raises(ValueError, match="population=100"):
        find("ns", {"poplation": 3})
    with pytest.raises(ValueError, match="int"):
        find("ns", {"population": 1.5})
    find("ns", {"sigma": 1})
    with pytest.raises(ValueError, match="chunk"):
        Search("serene", problem(), {"chunk": 50}).tell(plane(problem().first(100)))
    with pytest.raises(ValueError, match="at least 1"):
        Search("ns", problem(), {"population": 0})


def test_novelty_search_keeps_the_most_novel():
    """Two parents and four children on a line: novelty among all six, by hand."""
    search = novelty_search(problem(), population=2, offspring=2, neighbours=1, archived=0)
    parents = next(search)
    spots = torch.tensor([[0.0, 0.0], [0.1, 0.0]])
    none = torch.full((2,), -1)
    children = search.send(Evaluated(parents, torch.zeros(2), spots, none, none, none < 0))
    assert len(children) == 4
    spots = torch.tensor([[0.2, 0.0], [0.9, 0.0], [0.25, 0.0], [0.5, 0.0]])
    none = torch.full((4,), -1)
    grandchildren = search.send(Evaluated(children, torch.zeros(4), spots, none, none, none < 0))
    # Nearest neighbours: .1 .1 .05 .4 .05 .25, so the children at .9 and .5 stay.
    stay = children[[1, 3]].repeat_interleave(2, 0)
    assert (grandchildren - stay).abs().max() < 0.05 * 5 and not torch.equal(grandchildren, stay)


def test_nsga2_keeps_reward_too():
    search = nsga2(problem(), population=2, offspring=2, neighbours=1, archived=0)
    parents = next(search)
    none = torch.full((2,), -1)
    children = search.send(
        Evaluated(parents, torch.zeros(2), torch.tensor([[0.0, 0.0], [0.1, 0.0]]), none, none, none < 0)
    )
    none = torch.full((4,), -1)
    paid = torch.tensor([9.0, 0.0, 0.0, 0.0])
    spots = torch.tensor([[0.1, 0.0], [0.11, 0.0], [0.9, 0.0], [0.5, 0.0]])
    grandchildren = search.send(Evaluated(children, paid, spots, none, none, none < 0))
    stay = children[[0, 2]]  # the richest and the most novel
    assert torch.cdist(grandchildren, stay).argmin(-1).unique().tolist() == [0, 1]
    assert torch.cdist(grandchildren, stay).min(-1).values.max() < 0.5


def test_the_archive_makes_old_places_dull():
    """With all offspring archived, the place left behind is no longer novel to those that come back to it."""
    search = novelty_search(problem(), population=1, offspring=2, neighbours=1, archived=2)
    asked = next(search)

    def send(genomes, spots):
        none = torch.full((len(spots),), -1)
        points = torch.tensor(spots)
        return search.send(Evaluated(genomes, torch.zeros(len(spots)), points, none, none, none < 0))

    asked = send(asked, [[0.5, 0.5]])
    asked = send(asked, [[0.1, 0.1], [0.5, 0.6]])  # both archived; (0.1, 0.1) survives
    back = asked
    asked = send(asked, [[0.1, 0.1], [0.9, 0.1]])
    assert torch.cdist(asked, back[1:]).max() < 0.5  # the child at (0.9, 0.1) is the parent now


def test_elitists_keep_the_best():
    climber = Elitist(problem(), torch.zeros(4), 0.1, 3)
    first = climber.ask()
    assert first.shape == (3, 4)
    none = torch.full((3,), -1)
    climber.tell(Evaluated(first, torch.tensor([1.0, 5.0, 2.0]), torch.zeros(3, 2), none, none, none < 0))
    second = climber.ask()
    none = torch.full((6,), -1)
    paid = torch.tensor([0.0, 3.0, 0.0, 4.0, 0.0, 0.0])
    now = climber.tell(Evaluated(second, paid, torch.zeros(6, 2), none, none, none < 0))
    assert now.objective.tolist() == [5.0, 4.0, 3.0]
    assert torch.equal(now.genomes[1], second[3])


@pytest.mark.skipif(find_spec("ribs") is None, reason="needs ribs")
def test_strategies_are_made_when_they_have_a_turn():
    """Its chance is drawn at once, so that it does not depend on when that is; it draws as pyribs' does."""
    from ribs.emitters.opt import CMAEvolutionStrategy

    task, other = problem(), problem()
    start = torch.tensor([1.0, 2.0, 3.0, 4.0])
    climber = CMAES(task, start, 0.1, 6)
    assert climber._es is None
    seed = int(torch.randint(1 << 31, (), generator=other.generator))
    assert torch.equal(task.normal(3), other.normal(3))
    theirs = CMAEvolutionStrategy(sigma0=0.1, solution_dim=4, batch_size=6, seed=seed, dtype="float64")
    theirs.reset(start.double().numpy())
    first = climber.ask()
    assert torch.equal(first, torch.from_numpy(theirs.ask().copy()).float())
    made = climber._es
    climber.tell(plane(first))
    climber.ask()
    assert climber._es is made


def test_those_that_wait_keep_no_more_than_themselves():
    """Rewarded policies may wait for hours; a view of their generation would keep all of it."""
    search = serene(problem(), population=20, offspring=2, chunk=50, emitter_population=2)
    asked = next(search)
    for _ in range(2):
        asked = search.send(plane(asked))
    waiting = search.gi_frame.f_locals["waiting"]
    assert waiting
    for e in waiting:
        tensors = [v for v in vars(e.ancestor).values() if isinstance(v, torch.Tensor)] + [e.climber._start]
        assert all(v.untyped_storage().nbytes() == v.nbytes for v in tensors)


def test_improvement_and_stagnation_by_hand():
    emitter = Emitter(plane(torch.zeros(1, 4)), Elitist(problem(), torch.zeros(4), 0.1, 2))
    for v in (0.0, 1.0, 2.0, 4.0, 6.0):
        emitter.took(torch.tensor([v, v]))
        emitter.took(torch.zeros(0))  # a step whose results were all broken
    assert emitter.improvement == pytest.approx(4.0 - 1.0)
    emitter.values, emitter.steps = [torch.tensor([float(i)]) for i in range(60)], 60
    assert not emitter.stagnates(50)
    emitter.values = [torch.tensor([min(float(i), 15.0)]) for i in range(60)]
    assert emitter.stagnates(40) and not emitter.stagnates(60)


def test_serene_turns_and_finds_both_areas():
    """Chunks of 1000 in turn; small steps from rewarded policies raise the reward near to its top."""
    search, sizes = Search("serene", problem(3), areas=2), []
    while search.evaluations < 12_000:
        sizes.append(len(search.ask()))
        search.tell(plane(search.ask()))
    assert sizes[0] == 100 and sizes[1:6] == [200] * 5  # 900 left of the first chunk, in whole generations
    assert min(sizes) <= 12 and sizes[6] % 6 == 0
    novel = Search("ns", problem(3), areas=2)
    while novel.evaluations < 12_000:
        novel.tell(plane(novel.ask()))
    ours, theirs = search.grid.scores(), novel.grid.scores()
    assert min(ours["area_0"], ours["area_1"]) > 0.97
    assert ours["area_0"] + ours["area_1"] > theirs["area_0"] + theirs["area_1"]


def test_serene_tries_a_rewarded_policy_once():
    """One policy earns and stays a parent, for none is more novel: it gets one emitter, not one a generation."""
    options = {"population": 2, "offspring": 1, "neighbours": 1, "archived": 0, "chunk": 30, "emitter_population": 3}
    search = serene(problem(), **options, bootstrap=1)  # a candidate costs nine: there is room for three
    sizes, asked = [], next(search)
    for _ in range(16):
        sizes.append(len(asked))
        none = torch.full((len(asked),), -1)
        first = torch.zeros(len(asked))
        first[0] = float(len(sizes) == 1)
        asked = search.send(Evaluated(asked, first, 5 * first[:, None].expand(-1, 2), none, none, none < 0))
    assert sizes == [2] * 15 + [3]


def test_side_by_side_is_as_alone():
    env = make_vec("arm", 1)
    policy = MLP(env.single_observation_space, env.single_action_space)

    def search(seed):
        task = Problem(policy.size, *env.descriptor_bounds, seed=seed)
        return Search("ns", task, {"population": 6}, areas=len(env.areas))

    evaluator = Evaluator(make_vec("arm", 48), policy)
    both = [search(0), search(1)]
    for _ in range(3):
        run_together(both, evaluator, 30)
    assert [s.evaluations for s in both] == [30, 30]
    alone = search(1)
    while alone.evaluations < 30:
        alone.tell(evaluator(alone.ask()))
    assert alone.state_dict()["digest"] == both[1].state_dict()["digest"]


def test_pyribs_users_can_mix_in_a_search():
    pytest.importorskip("ribs")
    from ribs.archives import GridArchive
    from ribs.emitters import GaussianEmitter
    from ribs.schedulers import Scheduler

    from cairn.qd import as_emitter

    archive = GridArchive(solution_dim=4, dims=[10, 10], ranges=[(0, 1), (0, 1)])
    emitters = [GaussianEmitter(archive, sigma=0.5, x0=[0.0] * 4), as_emitter(archive, novelty_search(problem()))]
    scheduler = Scheduler(archive, emitters)
    for _ in range(4):
        found = plane(torch.from_numpy(scheduler.ask()).float())
        scheduler.tell(found.objective.numpy(), found.measures.numpy())
    assert archive.stats.num_elites > 10


@pytest.mark.skipif(find_spec("ribs") is not None, reason="pyribs is installed")
@pytest.mark.parametrize("name", sorted(NEEDS_RIBS))
def test_the_error_names_the_extra(name):
    with pytest.raises(ImportError, match=r"cairn-rl\[qd\]"):
        search = Search(name, problem())
        while search.evaluations < 5000:
            search.tell(plane(search.ask()))
