"""MiniGrid's own bot as a demonstrator of the BabyAI ids."""

from typing import Any

import gymnasium as gym


class _Bot:
    """``act(env, obs)`` for ``collect_single``: a new bot for each episode."""

    def __init__(self) -> None:
        self.bot: Any = None
        self.last: int | None = None

    def begin(self, env: gym.Env[Any, Any]) -> None:
        """Read the mission of the episode that begins."""
        from minigrid.utils.baby_ai_bot import BabyAIBot

        self.bot, self.last = BabyAIBot(env.unwrapped), None

    def __call__(self, env: gym.Env[Any, Any], obs: Any) -> int:
        """The bot's next action; where it gives up, ``done``, which lets the episode run out."""
        try:
            self.last = int(self.bot.replan(self.last))
        except Exception:  # the bot asserts what a level looks like, and gives up where it does not
            self.last = 6
        return int(self.last)


def babyai_bot() -> Any:
    """The bot of ``minigrid.utils.baby_ai_bot``, for ``collect_single``: most BabyAI levels, near the shortest way."""
    return _Bot()
