"""The programs of a batch: the kernels that a step, a reset and a look are made of, recorded once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import warp as wp

from . import facts as more_facts
from . import runtime, team
from .arrays import Arrays
from .graph import Graph
from .kernels import Kernels, Rules, check_kernel, pick_kernel

Run = Callable[[], None]
Chunks = Sequence[Sequence[wp.Launch]]


class Programs:
    """What a batch runs.

    Attributes:
        check: Note in ``result["bad"]`` whether an action is out of range.
        step: Step, renew what ended, find facts, observe.
        reset: Begin the masked lanes' next episodes and observe.
        look: Observe, after a state came from elsewhere.
        chunks: The lanes that one sequence of launches serves, on a CPU.

    Args:
        arrays: The batch's memory.
        made: The family's kernels.
        rules: What all lanes share.
        params: The family's numbers.
        pack: Warp's struct of a fixed set of levels, or None.
        actions: How many actions there are.
        device: Where it runs.
        threads: Threads on a CPU, or None for as many cores as are worth waking.
        graph: Capture a graph, on a CPU too.
    """

    def __init__(
        self,
        arrays: Arrays,
        made: Kernels,
        rules: Rules,
        params: Sequence[int],
        pack: Any,
        actions: int,
        device: torch.device,
        threads: int | None,
        graph: bool,
    ) -> None:
        self._arrays, self._device = arrays, device
        self._where = wp.device_from_torch(device)
        lanes = len(arrays.actions)
        self._graph = graph
        self._threads = 1 if graph else team.check_threads(threads, lanes)
        self.chunks = [slice(0, lanes)] if graph else team.chunks(lanes, self._threads)
        steps, resets, looks = [], [], []
        for part in self.chunks:
            step, reset, look = self._sequences(part, made, rules, params, pack)
            steps.append(step)
            resets.append(reset)
            looks.append(look)
        self.step, self.reset, self.look = self.program(steps), self.program(resets), self.program(looks)
        # One thread looks through all actions on a CPU, where that is a fast loop; each at its own on a GPU.
        span = 1 if device.type == "cuda" else lanes
        inputs = [wp.from_torch(arrays.actions), actions, span, wp.from_torch(arrays.result["bad"])]
        check = wp.launch(check_kernel(), lanes // span, inputs=inputs, device=self._where, record_cmd=True)
        self.check: Run = Graph([check], device) if graph else runtime.caller(check)

    def program(self, chunks: Chunks) -> Run:
        """Something that runs the launches of all chunks."""
        if self._graph:
            return Graph([launch for chunk in chunks for launch in chunk], self._device)
        return team.Program(chunks, self._threads)

    def record(self, kernel: Any, lanes: int | tuple[int, int], *inputs: Any) -> wp.Launch:
        """Record the launch of a kernel over some lanes (and something of each)."""
        launch: wp.Launch = wp.launch(kernel, lanes, inputs=list(inputs), device=self._where, record_cmd=True)
        return launch

    def _sequences(
        self, part: slice, made: Kernels, rules: Rules, params: Sequence[int], pack: Any
    ) -> tuple[list[wp.Launch], list[wp.Launch], list[wp.Launch]]:
        """The launches of a step, a reset and a look for some lanes."""
        arrays, lanes = self._arrays, part.stop - part.start
        world, (now, shown), (result, last) = arrays.world(part, params), arrays.shown(part), arrays.ends(part)
        done, mask, actions = result.done, wp.from_torch(arrays.mask[part]), wp.from_torch(arrays.actions[part])
        look = self.record(made.observe, lanes, world, rules, now)
        step = self.record(made.step, lanes, world, rules, result, actions)
        kernel, more = (made.renew, []) if pack is None else (pick_kernel(len(arrays.obs["image"][0])), [pack])
        renew = self.record(kernel, lanes, world, rules, now, done, 1, last, shown, result, *more)
        begin = self.record(kernel, lanes, world, rules, now, mask, 0, last, shown, result, *more)
        # The last state's facts come before its rooms are numbered anew.
        find_last, number_done, number_all, find_now = self._facts(part, done)
        return (
            [step, renew, *find_last, *number_done, *find_now, look],
            [begin, *number_all, *find_now, look],
            [*number_all, *find_now, look],
        )

    def _facts(self, part: slice, done: Any) -> tuple[list[wp.Launch], ...]:
        """Launches of the facts asked for: of the last states, rooms of new and of all levels, of the present."""
        arrays, names, lanes = self._arrays, self._arrays.more, part.stop - part.start
        if not names:
            return [], [], [], []
        label, find = more_facts.kernels()
        cells, ints, rooms, everyone, last_cells, last_ints = (
            wp.from_torch(tensor[part])
            for tensor in (
                arrays.state["cells"],
                arrays.state["ints"],
                arrays.rooms,
                arrays.everyone,
                arrays.last["cells"],
                arrays.last["ints"],
            )
        )
        wanted, width = more_facts.wanted(names), arrays.width
        now, last = (more_facts.struct(tensors, part) for tensors in (arrays.more_now, arrays.more_last))
        find_last = self.record(find, lanes, last_cells, last_ints, rooms, done, width, wanted, last)
        find_now = self.record(find, lanes, cells, ints, rooms, everyone, width, wanted, now)
        if "room" not in names:
            return [find_last], [], [], [find_now]
        number = [[self.record(label, lanes, cells, rooms, mask, width)] for mask in (done, everyone)]
        return [find_last], *number, [find_now]
