"""Real models of transformers in folders made here: loading, refusing, embedding. Skipped without transformers."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from cairn.agents import PPO
from cairn.shaping import ShapedReward, Task, VLMReward
from cairn.shaping.vision import ClipEmbedder, Embedder, ModelError, Preprocessor, TextCache, find_model, small
from cairn.shaping.vision.clip import content_hash
from cairn.shaping.vision.scenes import Pictures
from cairn.shaping.vision.small import TEMPLATES, _Said, _texts, contrast, train_small_clip, write_tokenizer

transformers = pytest.importorskip("transformers")


def coloured(count: int, seed: int = 0) -> Pictures:
    """Plain pictures of two colours, a little noisy."""
    rng = np.random.default_rng(seed)
    red = rng.integers(0, 2, count)
    frames = rng.integers(0, 40, (count, 20, 20, 3)).astype(np.uint8)
    frames[np.arange(count), ..., np.where(red, 0, 2)] += 200
    captions = ["a red wall" if r else "a blue wall" for r in red]
    return Pictures(torch.from_numpy(frames), captions, "a wall", {"a red wall": torch.from_numpy(red).float()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    """A CLIP that knows red from blue."""
    path = tmp_path_factory.mktemp("models") / "walls"
    heard: list[int] = []
    train_small_clip(path, [coloured(64)], size="tiny", steps=40, batch_size=16, report=lambda k, r: heard.append(k))
    assert heard == [0, 20, 39]
    return path


@pytest.fixture(scope="module")
def clip(folder: Path) -> ClipEmbedder:
    return ClipEmbedder(folder)


def test_the_small_model_learns_and_loads(clip: ClipEmbedder, folder: Path) -> None:
    assert isinstance(clip, Embedder)
    test = coloured(50, seed=1)
    images, texts = clip.images(test.frames), clip.texts(["a red wall", "a blue wall"])
    assert images.shape == (50, clip.width) and images.dtype == texts.dtype == torch.float32
    assert torch.allclose(images.norm(dim=1), torch.ones(50), atol=1e-5)
    right = (images @ texts.T).argmax(1) == 1 - test.truth["a red wall"].long()
    assert float(right.float().mean()) == 1.0
    # Transformers' own loader, processor and arithmetic give the same.
    model = transformers.CLIPModel.from_pretrained(folder)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(["a picture of a red wall"], return_tensors="pt")
    pixels = Preprocessor.of(folder)(test.frames[:3])
    with torch.no_grad():
        out = model(**tokens, pixel_values=pixels)
    assert torch.allclose(out.image_embeds, images[:3], atol=1e-5)
    assert torch.allclose(out.text_embeds, clip.texts(["a picture of a red wall"]), atol=1e-5)


def test_batches_bound_memory_and_change_nothing(clip: ClipEmbedder, folder: Path) -> None:
    frames = coloured(13, seed=2).frames
    few = ClipEmbedder(folder, batch_size=4)
    assert torch.allclose(few.images(frames), clip.images(frames), atol=1e-5)
    sizes: list[int] = []
    inner = few.preprocess
    few.preprocess = lambda x: (sizes.append(len(x)), inner(x))[1]  # type: ignore[assignment]
    few.images(frames)
    assert sizes == [4, 4, 4, 1]
    assert clip.images(frames[:0]).shape == (0, clip.width)
    assert not clip.images(frames).requires_grad and few.digest == clip.digest


def test_half_precision_is_near(clip: ClipEmbedder, folder: Path) -> None:
    frames = coloured(8, seed=3).frames
    half = ClipEmbedder(folder, dtype="bfloat16")
    assert half.images(frames).dtype == torch.float32 and half.digest != clip.digest
    assert float((half.images(frames) - clip.images(frames)).norm(dim=1).max()) < 0.05
    assert not torch.equal(half.images(frames), clip.images(frames))


def test_words_that_were_never_seen_have_tokens(clip: ClipEmbedder) -> None:
    texts = ["Ünïcode & 7%!", "a RED wall", "a red wall", "wall " * 100]
    found = clip.texts(texts)
    assert torch.isfinite(found).all() and torch.allclose(found[1], found[2]), "letters' case makes no difference"
    alone = torch.cat([clip.texts([text]) for text in texts])
    assert torch.allclose(alone, found, atol=1e-5), "padding makes no difference"


def test_texts_are_kept_by_content(folder: Path, tmp_path: Path) -> None:
    cache = TextCache(tmp_path / "texts.sqlite")
    one = ClipEmbedder(folder, cache=cache)
    VLMReward("a red wall", "a wall", model=one).around(gym.make("CartPole-v1", render_mode="rgb_array"))
    assert cache.get(one.digest, "a wall") is not None
    two = ClipEmbedder(folder, cache=cache)
    two.texts = lambda texts: pytest.fail("asked again")  # type: ignore[assignment, misc]
    VLMReward("a red wall", "a wall", model=two).around(gym.make("CartPole-v1", render_mode="rgb_array"))
    assert copy.deepcopy(one) is one
    assert pickle.loads(pickle.dumps(one)).digest == one.digest  # ours, and of this process


def test_by_name_in_text_to_the_same_reward(folder: Path, clip: ClipEmbedder, monkeypatch: Any) -> None:
    monkeypatch.setenv("CAIRN_MODELS", str(folder.parent))
    assert find_model("walls") == folder and find_model(folder) == folder
    text = 'task + vlm_reward("a red wall", "a wall", 0.5, "walls", every=2)'
    paid = []
    for expr in (text, Task() + VLMReward("a red wall", "a wall", 0.5, clip, every=2)):
        env = ShapedReward(gym.make("CartPole-v1", render_mode="rgb_array"), expr)
        env.reset(seed=0)
        paid.append([env.step(1)[1] for _ in range(3)])
    assert paid[0] == pytest.approx(paid[1], abs=1e-5) and len(set(paid[0])) == 2
    model = PPO("MlpPolicy", gym.make("CartPole-v1", render_mode="rgb_array"), reward=text, n_steps=4, batch_size=4)
    model.learn(8)
    with pytest.raises(ModelError, match="CAIRN_MODELS"):
        find_model("halls")
    with pytest.raises(ModelError, match="no model"):
        VLMReward("a red wall", model="halls").around(gym.make("CartPole-v1", render_mode="rgb_array"))


def test_siglip_embeds_too(folder: Path, tmp_path: Path) -> None:
    from transformers import SiglipConfig, SiglipModel

    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vocabulary = len(transformers.AutoTokenizer.from_pretrained(folder))
    config = SiglipConfig(
        text_config={**shape, "vocab_size": vocabulary, "max_position_embeddings": 12},
        vision_config={**shape, "image_size": 32, "patch_size": 16},
    )
    SiglipModel(config).save_pretrained(tmp_path / "siglip")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / "siglip" / name).write_text((folder / name).read_text())
    settings = {"size": {"height": 32, "width": 32}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "siglip" / "preprocessor_config.json").write_text(json.dumps(settings))
    model = ClipEmbedder(tmp_path / "siglip")
    assert model.images(coloured(3).frames).shape == (3, 16)
    alone, both = model.texts(["a red wall"]), model.texts(["a red wall", "a wall with many more words than that"])
    assert torch.allclose(alone[0], both[0], atol=1e-5), "always padded to the full length, as it was trained"


def copied(folder: Path, to: Path, without: tuple[str, ...] = (), **config: Any) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        if path.name not in without:
            (to / path.name).write_bytes(path.read_bytes())
    if config:
        whole = json.loads((to / "config.json").read_text())
        (to / "config.json").write_text(json.dumps({**whole, **config}))
    return to


def test_folders_of_another_kind(folder: Path, tmp_path: Path) -> None:
    def refused(match: str, path: Path) -> None:
        with pytest.raises(ModelError, match=match):
            ClipEmbedder(path)

    refused("is no folder", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    refused("no config.json", tmp_path / "empty")
    (tmp_path / "empty" / "open_clip_config.json").write_text("{}")
    refused("open_clip's", tmp_path / "empty")
    refused("brings code of its own", copied(folder, tmp_path / "code", auto_map={"AutoModel": "evil.Evil"}))
    untyped = copied(folder, tmp_path / "untyped")
    (untyped / "config.json").write_text("{}")
    refused("names no model_type", untyped)
    pickled = copied(folder, tmp_path / "pickled", without=("model.safetensors",))
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04}.")
    refused("pickled weights are not read", pickled)
    refused("does not know", copied(folder, tmp_path / "unknown", model_type="klip"))
    cut = copied(folder, tmp_path / "cut", without=("model.safetensors",))
    (cut / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    refused("cannot be read", cut)
    refused(
        "tokenizer", copied(folder, tmp_path / "mute", without=("vocab.json", "merges.txt", "tokenizer_config.json"))
    )
    from safetensors.torch import load_file, save_file
    from transformers import BertConfig, BertModel

    weights = load_file(folder / "model.safetensors")
    weights.pop("visual_projection.weight")
    part = copied(folder, tmp_path / "part")
    save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
    refused("not whole: 1 are missing", part)
    bert = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    BertModel(bert).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("a")
    refused("does not embed both", tmp_path / "bert")


def test_the_digest_is_of_the_contents(folder: Path, tmp_path: Path) -> None:
    same = copied(folder, tmp_path / "same")
    (same / "README.md").write_text("about it")
    assert content_hash(same) == content_hash(folder)
    assert content_hash(copied(folder, tmp_path / "other", projection_dim=17)) != content_hash(folder)


def test_damaged_weights_are_told(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = copied(folder, tmp_path / "nan")
    weights = {name: torch.full_like(v, torch.nan) for name, v in load_file(folder / "model.safetensors").items()}
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        ClipEmbedder(path)


def test_settings_that_make_no_sense(folder: Path, tmp_path: Path) -> None:
    for wrong in ({"dtype": "int8"}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="="):
            ClipEmbedder(folder, **wrong)  # type: ignore[arg-type]
    for wrong, match in (({"size": "huge"}, "one of"), ({"steps": 0}, "above 0"), ({"batch_size": 1}, "above 0")):
        with pytest.raises(ValueError, match=match):
            train_small_clip(tmp_path / "new", [coloured(4)], **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holds something"):
        train_small_clip(folder, [coloured(4)])


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    torch.manual_seed(5)
    for name in ("a", "b"):
        train_small_clip(tmp_path / name, [coloured(16)], size="tiny", steps=3, batch_size=4)
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")
    before = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(before, torch.rand(1)), "what others draw is left alone"


def test_texts_that_are_true_of_several_are_no_negatives() -> None:
    yes, no = True, False
    logits = torch.tensor([[1.0, 5.0, 0.0], [5.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    loss, right = contrast(logits, torch.tensor([[yes, yes, no], [yes, yes, no], [no, no, yes]]))
    # Rows and columns 0 and 1 have one rival, number 2; the third has two.
    one, two = torch.log1p(torch.exp(torch.tensor(-1.0))), torch.log1p(2 * torch.exp(torch.tensor(-2.0)))
    assert torch.allclose(loss, (2 * one + two) / 3) and float(right) == 1.0
    # Text 1 is true of picture 0, and text 0 is not of picture 1.
    loss, _ = contrast(logits, torch.tensor([[yes, yes, no], [no, yes, no], [no, no, yes]]))
    rows = [one, torch.log(torch.exp(torch.tensor(5.0)) + torch.exp(torch.tensor(1.0)) + 1) - 1, two]
    columns = [torch.log(torch.exp(torch.tensor(1.0)) + torch.exp(torch.tensor(5.0)) + 1) - 1, one, two]
    assert torch.allclose(loss, (sum(rows) + sum(columns)) / 6)


def test_what_is_said_of_pictures(folder: Path) -> None:
    walls, doors = coloured(3), Pictures(torch.zeros(1, 20, 20, 3, dtype=torch.uint8), ["a door"], "wood")
    walls.more = [("a wall at night", "night"), (), ("night",)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    said = _Said([walls, doors], tokenizer)
    texts = _texts([walls, doors])
    assert texts == sorted({*walls.captions, "a wall", "a wall at night", "night", "a door", "wood"})
    for i, true in enumerate([{"a wall at night", "night"}, set(), {"night"}]):
        assert {texts[k] for k in said.true[i].nonzero().flatten().tolist()} == {walls.captions[i], "a wall", *true}
    meant, form = said.draw(torch.tensor([0] * 3000 + [3] * 1000), torch.Generator().manual_seed(0))
    assert torch.equal(form // len(TEMPLATES), meant) and set((form % len(TEMPLATES)).tolist()) == set(range(4))
    count = {text: int((meant[:3000] == k).sum()) / 3000 for k, text in enumerate(texts)}
    for text in (walls.captions[0], "a wall at night", "night"):
        assert count[text] == pytest.approx(0.85 / 3, abs=0.04), text
    assert count["a wall"] == pytest.approx(0.15, abs=0.03)
    assert {texts[k] for k in meant[3000:].tolist()} == {"a door", "wood"}
    # Sentences that come twice are read once, and count at both places.
    model = transformers.CLIPModel.from_pretrained(folder)
    pixels, rows = torch.randn(4, 3, 64, 64), torch.arange(4)
    meant = torch.tensor([texts.index(t) for t in ("a wall", "a wall", "night", "wood")])
    form = meant * len(TEMPLATES)
    words = tokenizer([texts[k] for k in meant.tolist()], padding=True, return_tensors="pt")
    whole = model(**words, pixel_values=pixels).logits_per_image
    expected, _ = contrast(whole, said.true[rows][:, meant])
    assert torch.allclose(said.loss(model, pixels, rows, meant, form)[0], expected, atol=1e-4)


def test_patience_ends_a_training_and_keeps_the_best_weights(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(small, "CHECK", 5)
    losses = iter([1.0, 0.5, 0.499, 0.498, 0.497, 0.1])
    kept: list[tuple[float, Any]] = []

    def held_out(model: Any, said: Any, prepare: Any, frames: Tensor, rows: Tensor, batch_size: int) -> float:
        assert len(rows) == 4 and batch_size == 8
        kept.append((loss := next(losses), {k: v.clone() for k, v in model.state_dict().items()}))
        return loss

    monkeypatch.setattr(small, "_held_out", held_out)
    heard: dict[int, Any] = {}
    path = train_small_clip(
        tmp_path / "a", [coloured(40)], "tiny", 100, 8, patience=2, report=lambda k, told: heard.update({k: told})
    )
    # Less than 1 % lower does not count: the last that did is the second check, and two more follow it.
    assert [k for k, told in heard.items() if "held_out" in told] == [4, 9, 14, 19] and 20 not in heard
    best = transformers.CLIPModel.from_pretrained(path).state_dict()
    assert all(torch.equal(best[name], value) for name, value in kept[3][1].items()), "the lowest is kept all the same"
    assert any(not torch.equal(best[name], value) for name, value in kept[2][1].items())
    for wrong, said in (({"patience": 0}, "patience=0"), ({"patience": 1, "pictures": [coloured(19)]}, "held out")):
        with pytest.raises(ValueError, match=said):
            train_small_clip(tmp_path / "b", **{"pictures": [coloured(20)], **wrong})  # type: ignore[arg-type]


def test_the_loss_on_held_out_pictures_falls(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(small, "CHECK", 10)
    found: list[float] = []
    rows: dict[bool, set[int]] = {True: set(), False: set()}
    loss = _Said.loss

    def told(said: _Said, model: Any, pixels: Tensor, some: Tensor, meant: Tensor, form: Tensor) -> Any:
        rows[torch.is_grad_enabled()] |= set(some.tolist())
        return loss(said, model, pixels, some, meant, form)

    monkeypatch.setattr(_Said, "loss", told)
    train_small_clip(
        tmp_path / "a", [coloured(60)], "tiny", 60, 16, patience=9,
        report=lambda k, told: found.append(told["held_out"]) if "held_out" in told else None,
    )  # fmt: skip
    assert len(found) == 6 and found[-1] < 0.7 * found[0]
    assert len(rows[False]) == 6 and len(rows[True]) == 54 and not rows[True] & rows[False], "a tenth is held out"


def test_the_tokenizer_reads_back_what_it_wrote(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, ["a red wall", "a blue wall"])
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    made = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokens = made(["a red wall"])["input_ids"][0]
    assert tokens[0] == made.bos_token_id and tokens[-1] == made.eos_token_id
    assert made.decode(tokens, skip_special_tokens=True).strip() == "a red wall"
    odd = made(["zebra Ω 7"])["input_ids"][0]
    assert odd.count(made.eos_token_id) == 1, "every byte has a token"


def test_a_run_by_text_takes_pictures_and_resumes(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from cairn.agents.config import ConfigError, TrainConfig
    from cairn.agents.training import play, resume, train
    from cairn.runs import Run, first_difference

    monkeypatch.setenv("CAIRN_MODELS", str(folder.parent))
    reward = 'task + vlm_potential("a red wall", "a wall", 0.5, "walls", every=3)'
    settings: dict[str, Any] = {"env": "CartPole-v1", "reward": reward, "num_envs": 2, "threads": 1}
    settings["agent_args"] = {"n_steps": 4, "batch_size": 8, "n_epochs": 1}
    train(TrainConfig(**settings, steps=32, run=str(tmp_path / "whole")))
    train(TrainConfig(**settings, steps=16, run=str(tmp_path / "cut")))
    resume(tmp_path / "cut", steps=32)
    ends = [Run.open(tmp_path / name).latest() for name in ("whole", "cut")]
    models = [end[2]["model"] for end in ends if end is not None]
    assert len(models) == 2 and first_difference(*models) is None
    assert play(tmp_path / "cut", episodes=1).stat().st_size > 0
    with pytest.raises(ConfigError, match="there is no model 'halls'"):
        train(
            TrainConfig(**{**settings, "reward": reward.replace("walls", "halls")}, steps=32, run=str(tmp_path / "no"))
        )
