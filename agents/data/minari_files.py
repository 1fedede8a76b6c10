"""Minari's datasets to ``Demonstrations`` and back (extra ``data``). Reading runs no code of the dataset's.

Minari's own loader makes the environment that a dataset names where a space is missing, which imports what the name
says. Here spaces are read from the description or given by the caller, and nothing is made.
"""

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from ...envs import spaces as kinds
from ...envs.spaces import Tokens, declare, tree_map
from .convert import from_episodes
from .demonstrations import Demonstrations

MAX_METADATA = 1 << 22
"""Bytes of a dataset's description."""
_KEY = "cairn_spaces"
_ID = re.compile(r"^(?:[A-Za-z0-9][\w.-]*/)*[A-Za-z0-9][\w.-]*-v\d+$", re.ASCII)


class MissingExtra(ImportError):
    """Minari is not installed."""


def _minari() -> Any:
    try:
        import h5py  # noqa: F401
        import minari
    except ImportError as error:
        raise MissingExtra(
            f"datasets of Minari need {error.name}: pip install 'cairn-rl[data]'. Without it, Demonstrations.save and "
            "load keep the same in a folder of their own"
        ) from error
    return minari


def register_mission_space() -> None:
    """Teach Minari to write MiniGrid's ``MissionSpace``: as the ``Text`` that its missions are."""
    _minari()
    from minari.serialization import serialize_space
    from minigrid.core.mission import MissionSpace

    serialize_space.register(
        MissionSpace, lambda space, to_string=True: serialize_space(mission_text(), to_string=to_string)
    )


def mission_text() -> spaces.Text:
    """The ``Text`` space that a MiniGrid or BabyAI mission is in."""
    return spaces.Text(max_length=1024, min_length=0, charset="abcdefghijklmnopqrstuvwxyz ,'<>")


def to_minari(demonstrations: Demonstrations, dataset_id: str, **metadata: Any) -> Path:
    """Write a dataset into Minari's folder (``MINARI_DATASETS_PATH``, or ``~/.minari``), as HDF5.

    Tokens are written as text; pictures are kept exactly, not as JPEG. The spaces as Cairn has them go beside them, so
    that :func:`from_minari` gives back what was written.

    Args:
        demonstrations: What to write.
        dataset_id: Such as ``"minigrid/doorkey/optimal-v0"``.
        metadata: More of Minari's own fields: ``author``, ``algorithm_name``, ``description``, ...

    Returns:
        The dataset's folder.

    Raises:
        MissingExtra: Minari is not installed.
        ValueError: The id is malformed or taken, or a text has words that its tokens do not tell.
    """
    minari = _minari()
    from minari.data_collector import EpisodeBuffer

    _check_id(dataset_id)
    space, first, buffers = demonstrations.observation_space, 0, []
    arrays = {n: getattr(demonstrations, n).numpy() for n in ("action", "reward", "terminated", "truncated")}
    for number, length in enumerate(demonstrations.lengths.tolist()):
        rows, at = slice(first, first + length), slice(first + number, first + number + length + 1)
        buffers.append(EpisodeBuffer(
            observations=_plain(space, tree_map(lambda v: v[at].numpy(), demonstrations.states)),  # noqa: B023
            actions=arrays["action"][rows], rewards=arrays["reward"][rows].astype(np.float64),
            terminations=arrays["terminated"][rows], truncations=arrays["truncated"][rows],
        ))  # fmt: skip
        first += length
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # one for each field of the description that is left empty
        dataset = minari.create_dataset_from_buffers(
            dataset_id, buffers, observation_space=_plain_space(space), action_space=demonstrations.action_space,
            data_format="hdf5", jpeg_encoding=False, **{"requirements": ["cairn-rl"], **metadata},
        )  # fmt: skip
    more: dict[str, Any] = {
        _KEY: {"observation": kinds.to_json(space), "action": kinds.to_json(demonstrations.action_space)},
        "cairn_about": demonstrations.about,
    }
    env = demonstrations.about.get("env")
    if env in gym.registry:
        more["env_spec"] = gym.spec(env).to_json()
    dataset.storage.update_metadata(more)
    return Path(dataset.storage.data_path).parent


def from_minari(
    dataset: str | Path, *, observation_space: gym.Space[Any] | None = None, most: int | None = None
) -> Demonstrations:
    """Read a dataset that anyone may have written.

    Args:
        dataset: An id in Minari's folder, or the folder of a dataset.
        observation_space: How to read the observations, a batch's single observation space; left out, as the dataset
            says it (for one that Minari wrote, as ``envs.spaces.declare`` has it).
        most: Episodes to read at most; all if left out.

    Raises:
        MissingExtra: Minari is not installed.
        ValueError: There is no such dataset, it is empty, cut or damaged, or of another space.
    """
    _minari()
    folder = _folder(dataset)
    meta = _metadata(folder)
    ours = meta.get(_KEY)
    try:
        if isinstance(ours, Mapping):
            seen, acts = kinds.from_json(ours["observation"]), kinds.from_json(ours["action"])
            stored = _plain_space(seen)
        else:
            stored, acts = (_minaris(meta.get(name)) for name in ("observation_space", "action_space"))
            seen = declare(stored)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder}: the dataset does not say its spaces: {error}") from error
    return from_episodes(_episodes(folder, meta, stored, acts, most), observation_space or seen, acts, _about(meta))


def _check_id(dataset_id: str) -> None:
    if not isinstance(dataset_id, str) or not _ID.match(dataset_id) or ".." in dataset_id:
        raise ValueError(f"{dataset_id!r} is not an id of Minari's, such as 'minigrid/doorkey/optimal-v0'")


def _folder(dataset: str | Path) -> Path:
    """The data folder of a dataset."""
    path = Path(dataset)
    if not path.is_dir():
        _check_id(str(dataset))
        from minari.storage import get_dataset_path

        path = Path(get_dataset_path(str(dataset)))
    for folder in (path / "data", path):
        if (folder / "metadata.json").is_file():
            return folder
    raise ValueError(f"no Minari dataset lies in {path} (there is no data/metadata.json)")


def _metadata(folder: Path) -> dict[str, Any]:
    file = folder / "metadata.json"
    if file.stat().st_size > MAX_METADATA:
        raise ValueError(f"{file} has {file.stat().st_size} bytes: a description that long is not believed")
    try:
        meta = json.loads(file.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(meta, dict) or meta.get("data_format", "hdf5") != "hdf5":
        form = meta.get("data_format") if isinstance(meta, dict) else "no description"
        raise ValueError(f"{folder} is in the format {str(form)[:40]!r}, and what is read here is 'hdf5'")
    return meta


def _minaris(text: Any) -> gym.Space[Any]:
    """A space out of Minari's description, from its closed list of names."""
    from minari.serialization import deserialize_space

    if not isinstance(text, str):
        raise ValueError("it has none, and making the environment that it names would run foreign code")
    space = deserialize_space(text)
    if not isinstance(space, gym.Space):
        raise ValueError("malformed description of a space")
    return space


def _about(meta: Mapping[str, Any]) -> dict[str, Any]:
    ours = meta.get("cairn_about")
    told = {key: str(meta[key]) for key in ("dataset_id", "algorithm_name") if key in meta}
    return {**(ours if isinstance(ours, dict) else {}), **told}


def _episodes(
    folder: Path, meta: Mapping[str, Any], stored: gym.Space[Any], acts: gym.Space[Any], most: int | None
) -> list[dict[str, Any]]:
    """The episodes, read by Minari's own storage class after the file has been looked over."""
    from minari.dataset._storages import get_minari_storage

    try:
        count = _look_over(folder / "main_data.hdf5")
        storage = get_minari_storage("hdf5")(folder, stored, acts, jpeg_encoding=bool(meta.get("jpeg_encoding", True)))
        rows = storage.get_episodes(range(count if most is None else min(most, count)))
        return [dict(row) for row in rows]
    except (KeyError, AssertionError, OSError, TypeError, IndexError, RuntimeError) as error:
        raise ValueError(f"{folder}: the dataset is damaged, cut or of another space: {error!r}") from error


def _look_over(file: Path) -> int:
    """Refuse links out of the file and more data than the machine has memory; returns the number of episodes."""
    import h5py

    left = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]

    def walk(group: Any, depth: int) -> None:
        if depth > 16:
            raise ValueError(f"{file}: groups more than 16 deep are not believed")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{file}: {group.name}/{name} is a link to elsewhere, which is not followed")
            child = group[name]
            if isinstance(child, h5py.Group):
                walk(child, depth + 1)
                continue
            if child.external or child.is_virtual:
                raise ValueError(f"{file}: {child.name} has its data in another file, which is not opened")
            left[0] -= child.nbytes
            if left[0] < 0:
                raise ValueError(f"{file} says that it holds more data than this machine has memory")

    with h5py.File(file, "r") as data:
        if not len(data):
            raise ValueError(f"{file}: there are no demonstrations in it")
        walk(data, 0)
        return len(data)


def _plain_space(space: gym.Space[Any]) -> gym.Space[Any]:
    """The space as Gymnasium has it, which Minari can write: text for tokens."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: _plain_space(child) for name, child in space.spaces.items()})
    if isinstance(space, Tokens):
        if space.by == "word":
            return mission_text()
        return spaces.Text(max_length=space.shape[0], min_length=0, charset="".join(space.vocabulary[2:]))
    if isinstance(space, spaces.Box):
        return spaces.Box(space.low, space.high, space.shape, space.dtype.type)
    return space


def _plain(space: gym.Space[Any], tree: Any) -> Any:
    """Observations ``[L, ...]`` as Minari writes them."""
    if isinstance(space, spaces.Dict):
        return {name: _plain(child, tree[name]) for name, child in space.spaces.items()}
    if not isinstance(space, Tokens):
        return tree
    texts = [space.decode(row) for row in tree]
    for row, text in zip(tree, texts):
        if not np.array_equal(space.encode(text), row):
            raise ValueError(f"the text {text[:60]!r} has words that the vocabulary lacks, and cannot be written back")
    return texts
