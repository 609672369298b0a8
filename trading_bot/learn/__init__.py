"""Learning over time: regimes, the ensemble's weights, each strategy's record."""
