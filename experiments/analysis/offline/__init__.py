"""Off-policy evaluation: what another policy would have earned, from the log of one that explored.

`policy_estimators` and `slate_estimators` are pure functions of arrays; `estimates` is what they return and the intervals
around it; `reward_models` learns what the direct and doubly robust ones need.
"""
