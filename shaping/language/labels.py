"""What a labeller is asked about captions, and a small model of its judgements."""

import re
import zlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ask import Question

LABEL = {
    "type": "object", "required": ["label"], "additionalProperties": True,
    "properties": {"label": {"enum": ["helpful", "not helpful"]}},
}  # fmt: skip
PAIR = {
    "type": "object", "required": ["better"], "additionalProperties": True,
    "properties": {"better": {"enum": ["first", "second", "neither"]}},
}  # fmt: skip
_ABOUT = (
    "You judge what an agent does in a small world. It learns by trial and error, and is told a reward only when its "
    "whole task is done, so your judgement of single events is what it learns from."
)
_WORD = re.compile(r"[a-z0-9.+-]+")
BUCKETS = 1024


def about(caption: str, task: str = "") -> Question:
    """Ask whether an event is a step towards the task."""
    goal = f"The task: {task}\n" if task else ""
    content = f"{goal}The event: {caption}\n\nIs this event a step towards the task? Say helpful or not helpful."
    messages = [{"role": "system", "content": _ABOUT}, {"role": "user", "content": content}]
    return Question(messages, schema=LABEL, temperature=0.1, seed=0, template="cairn-label@1", max_tokens=64)


def between(first: str, second: str, task: str = "") -> Question:
    """Ask which of two events is the better one for the task."""
    goal = f"The task: {task}\n" if task else ""
    content = (
        f"{goal}The first event: {first}\nThe second event: {second}\n\n"
        "Which of them is the greater step towards the task? Say first, second or neither."
    )
    messages = [{"role": "system", "content": _ABOUT}, {"role": "user", "content": content}]
    return Question(messages, schema=PAIR, temperature=0.1, seed=0, template="cairn-pair@1", max_tokens=64)


def features(text: str) -> Tensor:
    """Words and pairs of neighbouring words as buckets, int64 ``[W]``."""
    words = ["<", *_WORD.findall(text.lower())]
    grams = [*words[1:], *(f"{a} {b}" for a, b in zip(words, words[1:]))]
    return torch.tensor([zlib.crc32(g.encode()) % BUCKETS for g in grams] or [0])


class Judge(nn.Module):
    """A number for each caption: a bag of its words, and one hidden layer.

    ONI has a convolutional network over characters here; captions of our worlds are a few words from a small set.
    """

    def __init__(self, generator: torch.Generator, width: int = 16) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(BUCKETS, width, mode="sum")
        self.out = nn.Linear(width, 1)
        with torch.no_grad():
            self.bag.weight.copy_(torch.randn(BUCKETS, width, generator=generator) * 0.1)
            self.out.weight.copy_(torch.randn(1, width, generator=generator) * 0.1)
            self.out.bias.zero_()

    def forward(self, captions: list[Tensor]) -> Tensor:
        """The numbers ``[B]`` of captions given as ``features``."""
        return self.scores(*joined(captions))

    def scores(self, words: Tensor, starts: Tensor) -> Tensor:
        """The same of captions that ``joined`` has put together."""
        device = self.out.bias.device
        score: Tensor = self.out(torch.tanh(self.bag(words.to(device), starts.to(device))))[:, 0]
        return score

    @torch.no_grad()
    def backward(self, counts: Tensor, used: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """Set the gradients of a loss; returns the numbers of the captions, ``[B]``.

        By hand, as labels are learned from while an agent trains: autograd takes three times as long for a network so
        small.

        Args:
            counts: How often each caption has each word, ``[B, U]``; see ``counted``.
            used: The words' buckets, ``[U]``.
            slope: From the numbers to the loss's derivatives by them.
        """
        way = self.out.weight[0]
        hidden = torch.tanh(counts @ self.bag.weight[used])
        score = hidden @ way + self.out.bias
        back = slope(score)
        self.out.weight.grad = (back @ hidden)[None]
        self.out.bias.grad = back.sum()[None]
        self.bag.weight.grad = torch.zeros_like(self.bag.weight)
        self.bag.weight.grad[used] = counts.T @ (back[:, None] * way * (1 - hidden.square()))
        return score


def joined(captions: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Captions given as ``features`` one after the other, and where each begins ``[B]``."""
    starts = torch.tensor([0, *(c.numel() for c in captions)])[:-1].cumsum(0)
    return torch.cat(captions) if captions else torch.zeros(0, dtype=torch.int64), starts


def counted(words: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """How often each caption that ``joined`` has put together has each word ``[B, U]``, and the words ``[U]``."""
    used, of = torch.unique(words, return_inverse=True)
    whose = torch.zeros_like(words)
    whose[starts[1:]] = 1  # no caption is without a word
    counts = torch.zeros(len(starts), len(used))
    return counts.index_put_((whose.cumsum(0), of), torch.ones(len(words)), accumulate=True), used


def label_loss(score: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of ``sigmoid(score)`` against labels in {0, 1}, both ``[B]``."""
    return F.binary_cross_entropy_with_logits(score, label)


def pair_loss(first: Tensor, second: Tensor, preferred: Tensor) -> Tensor:
    """Cross-entropy of the softmax over two scores (Bradley and Terry 1952); ``preferred`` is 1, 0, or 0.5."""
    return F.binary_cross_entropy_with_logits(first - second, preferred)


def label_slope(score: Tensor, label: Tensor) -> Tensor:
    """The derivative of ``label_loss`` by the scores."""
    return (torch.sigmoid(score) - label) / len(score)


def pair_slope(score: Tensor, first: Tensor, second: Tensor, preferred: Tensor) -> Tensor:
    """The derivative of ``pair_loss`` of ``score[first]`` and ``score[second]`` by the scores ``[B]``."""
    each = (torch.sigmoid(score[first] - score[second]) - preferred) / len(first)
    return torch.zeros_like(score).index_add_(0, first, each).index_add_(0, second, -each)


def label_of(value: Any) -> int:
    """1 for helpful, 0 for not."""
    return int(value["label"] == "helpful")


def preference_of(value: Any) -> float:
    """1 for the first, 0 for the second, 0.5 for neither."""
    return {"first": 1.0, "second": 0.0, "neither": 0.5}[value["better"]]
