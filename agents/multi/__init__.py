"""Learning in teams: the agents that train on an environment with an agent axis."""
