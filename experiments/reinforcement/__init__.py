"""Simulated people as environments of Gymnasium, for reinforcement learning. Needs ``pip install 'usersim[gymnasium]'``.

::

    from experiments.reinforcement import make, make_vector

    environment = make("movielens", ["language_model=false"], reward="likes", candidates=100)
    environments = make_vector(64, "movielens", ["language_model=false"], candidates=100)

Importing this package also registers ``usersim/MovieLens-v0``::

    gymnasium.make("experiments.reinforcement:usersim/MovieLens-v0", reward="likes")
    gymnasium.make_vec("experiments.reinforcement:usersim/MovieLens-v0", num_envs=64)
"""

from __future__ import annotations

from simulator.errors import PluginError

try:
    from gymnasium.envs.registration import register, registry
except ImportError as error:
    raise PluginError(
        "environments for reinforcement learning need the package 'gymnasium'; try: pip install 'usersim[gymnasium]'."
    ) from error

from experiments.reinforcement.environment import SlateEnvironment as make
from experiments.reinforcement.vector_environment import SlateVectorEnvironment as make_vector

__all__ = ["ENVIRONMENT", "make", "make_vector"]

ENVIRONMENT = "usersim/MovieLens-v0"
"""Id of the registered environment: the experiment `movielens` unless ``config`` names another."""

if ENVIRONMENT not in registry:
    register(
        ENVIRONMENT,
        entry_point="experiments.reinforcement.environment:SlateEnvironment",
        vector_entry_point="experiments.reinforcement.vector_environment:SlateVectorEnvironment",
    )
