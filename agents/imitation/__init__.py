"""Imitation and inverse reinforcement learning: acting as demonstrated, and finding out what for."""
