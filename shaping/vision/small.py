"""A small CLIP, trained in minutes on pictures of our own worlds.

It proves the pipeline (a real ``CLIPModel`` with a tokenizer of its own, in a folder that any loader reads) and the
mathematics (what alpha does, and that the score follows the true one). It knows what it was trained on, in the words it
was trained on, and nothing else: what a model of the open world sees in a new task, zero-shot, it does not show.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021: symmetric cross-entropy
over a batch, with a learned temperature. Captions come many times in a batch here; such pairs count as neither.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .clip import quiet
from .preprocess import MEAN, Preprocessor
from .scenes import Pictures, cart_pole_pictures, door_key_pictures, humanoid_pictures, square

SIZES: dict[str, tuple[int, int, int]] = {"tiny": (32, 1, 16), "small": (64, 2, 32), "medium": (128, 3, 64)}
"""Width, layers and width of the embedding, of both halves."""
TEMPLATES = ("{}", "a picture of {}", "this is {}", "there is {}")
CONTEXT, PIXELS, PATCH = 24, 64, 16
CHECK, MOST_HELD = 100, 512  # batches between two looks at held-out pictures, and how many are looked at
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
WORLDS: dict[str, Callable[..., Pictures]] = {
    "humanoid": humanoid_pictures, "cartpole": cart_pole_pictures, "doorkey": door_key_pictures,
}  # fmt: skip


def train_small_clip(
    folder: str | Path,
    pictures: Sequence[Pictures] | None = None,
    size: str = "small",
    steps: int = 600,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    patience: int | None = None,
    seed: int = 0,
    patch: int = PATCH,
    report: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Path:
    """Train a CLIP on pictures and captions, and write it as transformers' ``save_pretrained`` does.

    Args:
        folder: Where to; it must not be there, or be empty.
        pictures: What to learn from; left out, 1,500 of each of ``WORLDS``.
        size: Of ``SIZES``.
        steps: Batches; with ``patience``, the most of them.
        batch_size: Pictures of a batch; they come from all worlds.
        learning_rate: Of AdamW, after a warm-up of a tenth of the steps; it falls to 0 along a cosine.
        patience: Stop when so many checks in a row have not found the loss on held-out pictures (a tenth, checked every
            100 batches) lower by 1 %, and keep the weights with the lowest. The rate then stays where it is after 100
            batches, and it is the average of the weights over some 100 batches that is checked and kept.
        seed: Of weights, draws and pictures.
        patch: Width of the squares that a picture is cut into: half of it sees finer, at two to three times the time.
        report: Hears of the step, the loss and the share of pictures that find their caption, every 20 steps, and at
            a check of the loss that was found ("held_out").

    Returns:
        The folder, for ``ClipEmbedder``.

    Raises:
        ImportError: transformers is not installed.
        ValueError: A setting is out of its range, or the folder holds something.
    """
    if size not in SIZES:
        raise ValueError(f"size={size!r}: one of {', '.join(SIZES)}")
    if steps < 1 or batch_size < 2 or not learning_rate > 0:
        raise ValueError(
            f"steps={steps}, batch_size={batch_size}, learning_rate={learning_rate}: above 0; a batch of 2"
        )
    if patch < 1 or PIXELS % patch:
        raise ValueError(f"patch={patch}: pictures are {PIXELS} pixels wide, which patches must divide")
    if patience is not None and patience < 1:
        raise ValueError(f"patience={patience}: a number of checks, at least 1, or None for no end but steps")
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} holds something already: give the model a folder of its own")
    try:
        from transformers import CLIPConfig, CLIPModel
    except ImportError as error:
        raise ImportError("a CLIP is trained with transformers: pip install 'cairn-rl[vlm]'") from error
    path.mkdir(parents=True, exist_ok=True)
    worlds = [make(1500, seed) for make in WORLDS.values()] if pictures is None else list(pictures)
    if patience is not None and sum(map(len, worlds)) < 20:
        raise ValueError(f"{sum(map(len, worlds))} pictures: a tenth is held out, which takes 20 at least")
    write_tokenizer(path, [template.format(text) for text in _texts(worlds) for template in TEMPLATES])
    (path / "preprocessor_config.json").write_text(json.dumps(_SETTINGS, indent=2))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    width, layers, together = SIZES[size]
    shape = {
        "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers,
        "num_attention_heads": max(width // 32, 1), "projection_dim": together,
    }  # fmt: skip
    ends = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in zip(("bos", "eos"), _SPECIAL)}
    ends["pad_token_id"] = ends["eos_token_id"]
    text = {**shape, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT}
    vision = {**shape, "image_size": PIXELS, "patch_size": patch}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=together))
    draws = torch.Generator().manual_seed(seed)
    _fit(model, tokenizer, worlds, steps, batch_size, learning_rate, patience, draws, report)
    with quiet():
        model.eval().save_pretrained(path)
    return path


class _Said:
    """What is said of pictures, as numbers: which text is true of which picture, and the tokens of each."""

    def __init__(self, worlds: Sequence[Pictures], tokenizer: Any) -> None:
        texts = _texts(worlds)
        number = {text: k for k, text in enumerate(texts)}
        # Of each picture its own captions, and last what is said of its world.
        said = [
            (caption, *(world.more[i] if world.more else ()), world.general)
            for world in worlds
            for i, caption in enumerate(world.captions)
        ]
        most = max(map(len, said)) - 1
        self.true = torch.zeros(len(said), len(texts), dtype=torch.bool)
        self.own = torch.zeros(len(said), most, dtype=torch.long)
        self.count = torch.tensor([len(own) - 1 for own in said])
        self.general = torch.tensor([number[own[-1]] for own in said])
        for i, own in enumerate(said):
            numbers = torch.tensor([number[text] for text in own])
            self.true[i, numbers] = True
            self.own[i, : len(own) - 1] = numbers[:-1]
        words = [template.format(text) for text in texts for template in TEMPLATES]
        tokens = tokenizer(words, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt")
        self.ids, self.mask = tokens["input_ids"], tokens["attention_mask"]

    def draw(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A text for each picture, by its number, and the number of its sentence."""
        of = (torch.rand(len(rows), generator=generator) * self.count[rows]).long()
        plain = torch.rand(len(rows), generator=generator) < 0.15
        meant = torch.where(plain, self.general[rows], self.own[rows, of])
        return meant, meant * len(TEMPLATES) + torch.randint(len(TEMPLATES), (len(rows),), generator=generator)

    def loss(self, model: Any, pixels: Tensor, rows: Tensor, meant: Tensor, form: Tensor) -> tuple[Tensor, Tensor]:
        """``contrast`` of a batch; a sentence that comes twice is read once."""
        once, where = form.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        mask = self.mask[once]
        longest = int(mask.sum(1).max())
        found = model(input_ids=self.ids[once, :longest], attention_mask=mask[:, :longest], pixel_values=pixels)
        return contrast(found.logits_per_image[:, where], self.true[rows][:, meant])


def _texts(worlds: Sequence[Pictures]) -> list[str]:
    more = (text for world in worlds for texts in world.more for text in texts)
    return sorted({text for world in worlds for text in (*world.captions, world.general)} | set(more))


def _fit(
    model: Any, tokenizer: Any, worlds: Sequence[Pictures], steps: int, batch_size: int, learning_rate: float,
    patience: int | None, generator: torch.Generator, report: Callable[[int, Mapping[str, float]], None] | None,
) -> None:  # fmt: skip
    prepare = Preprocessor(_SETTINGS)
    frames = torch.cat([square(world.frames, PIXELS) for world in worlds])
    said = _Said(worlds, tokenizer)
    order = torch.arange(len(frames)) if patience is None else torch.randperm(len(frames), generator=generator)
    held = len(frames) // 10 if patience is not None else 0
    kept, learned = order[:held], order[held:]
    optimiser = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.01)
    rise = max(steps // 10, 1) if patience is None else CHECK

    def rate(k: int) -> float:
        fall = 0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * k / steps))) if patience is None else 1.0
        return min((k + 1) / rise, fall)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    # Where the end is not known beforehand, weights are averaged in the place of a rate that falls.
    mean: AveragedModel | None = None
    if patience is not None:
        mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / CHECK))  # type: ignore[no-untyped-call]
    best, best_at, low, weights = float("inf"), 0, float("inf"), {}
    model.train()
    for step in range(steps):
        rows = learned[torch.randint(len(learned), (batch_size,), generator=generator)]
        meant, form = said.draw(rows, generator)
        loss, right = said.loss(model, prepare(frames[rows]), rows, meant, form)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6052)  # at most 100, as in the paper
        told = {"loss": float(loss.detach()), "right": float(right)}
        last = step == steps - 1
        if mean is not None and patience is not None:
            mean.update_parameters(model)
            if (step + 1) % CHECK == 0 or last:
                told["held_out"] = now = _held_out(mean.module, said, prepare, frames, kept, batch_size)
                if now < best:
                    best, weights = now, {name: value.clone() for name, value in mean.module.state_dict().items()}
                if now < 0.99 * low:
                    low, best_at = now, step
                last = last or step - best_at >= patience * CHECK
        if report is not None and (step % 20 == 0 or last or "held_out" in told):
            report(step, told)
        if last:
            break
    if weights:
        model.load_state_dict(weights)


def contrast(logits: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """CLIP's loss on a batch in which texts come more than once.

    A text that is true of another picture too (the same caption, or what is said of its world in general) is no
    negative of it: such pairs are left out of both softmaxes.

    Args:
        logits: Picture i against the text that was drawn for picture j, ``[B, B]``.
        true: Whether that text is true of picture i, bool ``[B, B]``.

    Returns:
        The loss, and the share of pictures whose text comes first among those that are not left out.
    """
    open_pairs = logits.masked_fill(true & ~torch.eye(len(logits), dtype=torch.bool), -torch.inf)
    target = torch.arange(len(logits))
    loss = (F.cross_entropy(open_pairs, target) + F.cross_entropy(open_pairs.T, target)) / 2
    return loss, (open_pairs.argmax(1) == target).float().mean()


@torch.no_grad()
def _held_out(
    model: Any, said: _Said, prepare: Preprocessor, frames: Tensor, kept: Tensor, batch_size: int
) -> float:  # fmt: skip
    """The mean loss on pictures that are not learned from; the same batches and texts at every call."""
    fixed = torch.Generator().manual_seed(0)
    losses = []
    for begin in range(0, min(len(kept), MOST_HELD), batch_size):
        rows = kept[begin : begin + batch_size]
        losses.append(float(said.loss(model, prepare(frames[rows]), rows, *said.draw(rows, fixed))[0]))
    return sum(losses) / len(losses)


def write_tokenizer(folder: Path, texts: Sequence[str], vocabulary: int = 512) -> None:
    """Write a CLIP tokenizer (byte pairs, lower case) with pairs counted in ``texts``; every byte has a token."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary + len(alphabet), special_tokens=list(_SPECIAL), initial_alphabet=alphabet,
        end_of_word_suffix="</w>", show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(texts, trainer)
    pairs = json.loads(made.to_str())["model"]["merges"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *(re.sub(" ", "", pair) for pair in merges)]
    vocab = {token: k for k, token in enumerate(dict.fromkeys([*tokens, *_SPECIAL]))}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": CONTEXT, "bos_token": _SPECIAL[0],
        "eos_token": _SPECIAL[1], "pad_token": _SPECIAL[1], "unk_token": _SPECIAL[1],
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


_SETTINGS: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": PIXELS}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": PIXELS, "width": PIXELS}, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": list(MEAN), "image_std": [0.25, 0.25, 0.25],
    "do_convert_rgb": True,
}  # fmt: skip
