"""VLM-RM as terms: a sentence as a reward, by what an image-text model sees.

Rocamonde et al., "Vision-Language Models are Zero-Shot Reward Models for Reinforcement Learning", ICLR 2024, pay the
score of every state. That rewards being near the goal for as long as possible; as a difference or as a potential the
same score rewards coming nearer, and the potential leaves the best policy of the other terms as it is.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ..potential import Potential
from ..stretch import FactError, Stretch
from ..term import Pure, Term
from .embedder import Embedder
from .projection import check_alpha
from .sight import Prompts, check_every, look, prompts, sights, view

Model = str | Path | Embedder


class Seen(Term):
    """What both terms share: a goal in words that an image-text model scores, as a fact.

    Agents and ``ShapedReward`` call ``around``; other seats need an environment in ``Sight`` (``SightEnv``) that names
    the fact.
    """

    pictures: ClassVar[bool] = True

    def _set(
        self, goal: Prompts, baseline: Prompts | None, alpha: float | None, model: Model, every: int, fact: str
    ) -> str:
        """Check and keep the settings; returns the name of the fact."""
        check_every(every)
        self.goal, self.baseline = prompts(goal), None if baseline is None else prompts(baseline)
        if self.baseline is not None and set(self.goal) == set(self.baseline):
            raise ValueError(f"goal and baseline are both {goal!r}: the baseline says what is there without the goal")
        self.alpha = (0.0 if baseline is None else 0.5) if alpha is None else alpha
        check_alpha(self.alpha, baseline is not None)
        if not isinstance(model, str | Path | Embedder):
            raise TypeError(f"model={model!r}: a name, the path of a folder, or an embedder (see ClipEmbedder)")
        self.model, self.every = model, every
        if not fact:
            whose = model.digest if isinstance(model, Embedder) else str(model)
            said = json.dumps([whose, self.goal, self.baseline, float(self.alpha)])
            fact = f"vlm_{hashlib.sha256(said.encode()).hexdigest()[:8]}"
        self.fact = fact
        return fact

    def around(self, env: Any) -> Any:
        """``env`` with the score among its facts; as it is, where it has them already.

        Raises:
            ImportError: transformers is not installed.
            ModelError: There is no such model.
            ValueError: The environment has no pictures, or goal and baseline are the same to the model.
        """
        if any(self.fact in other.views for other in sights(env)):
            return env
        embedder = self.model
        if not isinstance(embedder, Embedder):
            from .clip import shared

            embedder = shared(embedder, getattr(env, "device", "cpu"))
        return look(env, embedder, {self.fact: view(embedder, self.goal, self.baseline, self.alpha)}, self.every)

    def seen(self, x: Stretch, of_next: bool) -> Tensor:
        """The score of each row's state, or of its next one, float32 ``[*]``."""
        try:
            return x.fact(self.fact, of_next=of_next).float()
        except FactError as error:
            raise FactError(
                f"nobody has looked at this environment for {self.name} ({error}); PPO, DQN, SAC, TD3 and ShapedReward "
                "see to it, and elsewhere the environment has to be wrapped: env = term.around(env)"
            ) from None


class VLMReward(Seen, Pure):
    """How much what is seen is what a sentence says, by an image-text model, along the line from a baseline.

    The scores of a model differ by little, so that a weight means something after ``normalise(centre=True)`` alone. No
    picture is taken but every ``every`` steps, at an episode's first state and at its true last one; a step is paid by
    the last picture.

    Args:
        goal: What should be seen: a text, or several whose mean counts.
        baseline: What is usually seen ("a humanoid robot"); left out, nothing is projected away.
        alpha: How much of what tells goal and baseline not apart is left out, 0 to 1 (``GoalBaseline``); left out, 0.5
            with a baseline and 0 without.
        model: A plain name of a model in ``$CAIRN_MODELS`` or ``models``, the path of its folder, or an ``Embedder``
            (``ClipEmbedder`` where it should compute in half precision).
        mode: "score" pays the score of the next state; "difference" what it has grown by, whose plain sum along an
            episode is last less first. As a potential: ``VLMPotential``.
        every: Steps between two pictures.
        fact: A name for the score in ``facts``.
        sharpness: Above 0, ``exp(sharpness * (score - 1))`` is paid in the place of the score. A contrastive model's
            score is a logarithm: of how much likelier the sentence is with this picture than without (van den Oord et
            al. 2018), divided by the temperature. Paid as it is, what is nearly so for long is worth more than what is
            so at times. The model's own ``logit_scale`` would undo the temperature; half of it errs less by outliers.

    Raises:
        ValueError: A setting is out of its range, or goal and baseline are the same.
    """

    text_name = "vlm_reward"

    def __init__(
        self,
        goal: Prompts,
        baseline: Prompts | None = None,
        alpha: float | None = None,
        model: Model = "clip",
        mode: str = "score",
        every: int = 1,
        fact: str = "",
        sharpness: float = 0.0,
    ) -> None:
        if not 0 <= sharpness < float("inf"):
            raise ValueError(f"sharpness={sharpness!r}: at least 0, which pays the score as it is")
        if mode not in ("score", "difference"):
            hint = ": VLMPotential is the term for it" if mode == "potential" else ""
            raise ValueError(f"VLMReward(mode={mode!r}): it pays the 'score' or the 'difference'{hint}")
        self._set(goal, baseline, alpha, model, every, fact)
        self.mode, self.sharpness = mode, float(sharpness)

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """``r(s')``, or ``r(s') - r(s)``."""
        after = self.paid(x, of_next=True)
        return after if self.mode == "score" else after - self.paid(x, of_next=False)

    def paid(self, x: Stretch, of_next: bool) -> Tensor:
        """What a state is worth: its score, sharpened."""
        seen = self.seen(x, of_next)
        return (self.sharpness * (seen - 1)).exp() if self.sharpness else seen

    @classmethod
    def examples(cls) -> list[Term]:
        """Both modes, on a fact that is there."""
        said = "a robot that kneels", "a robot"
        return [cls(*said, fact="distance"), cls(*said, mode="difference", every=3, fact="distance", sharpness=2)]


class VLMPotential(Seen, Potential):
    """The score of ``VLMReward`` as a potential: ``gamma * r(s') - r(s)``, which leaves the best policy as it is.

    Args:
        goal: As in ``VLMReward``, and so the next three.
        baseline: What is usually seen.
        alpha: How much is projected away.
        model: Whose eyes.
        every: Steps between two pictures.
        gamma: As in ``Potential``.
        fact: A name for the score in ``facts``.
    """

    text_name = "vlm_potential"

    def __init__(
        self,
        goal: Prompts,
        baseline: Prompts | None = None,
        alpha: float | None = None,
        model: Model = "clip",
        every: int = 1,
        gamma: float | None = None,
        fact: str = "",
    ) -> None:
        Potential.__init__(self, self._set(goal, baseline, alpha, model, every, fact), gamma)

    def value(self, x: Stretch, *, of_next: bool = False) -> Tensor:
        """The score of each row's state, or of its next state: float32 ``[*]``."""
        return self.seen(x, of_next)

    @classmethod
    def examples(cls) -> list[Term]:
        """On a fact that is there."""
        return [cls("a robot that kneels", "a robot", 1.0, fact="distance")]
