"""Short runs of the notebooks: budgets and seeds."""

import pytest

from oskdft import config
from oskdft.lessons import budgets
from oskdft.method import strategies


def test_odd_budgets_are_refused():
    with pytest.raises(ValueError, match="3 updates cannot be shared"):
        budgets.short(config.load("smoke"), 3)
    with pytest.raises(ValueError, match="choose an even number"):
        budgets.short(config.load("smoke"), -2)


@pytest.mark.parametrize("profile", config.PROFILES)
def test_short_runs_are_valid_and_differ_in_nothing_else(profile):
    cfg = config.load(profile)
    made = cfg.override(budgets.short(cfg))
    assert made.model == cfg.model and made.loss == cfg.loss and made.switches == cfg.switches
    assert (made == cfg) == (profile not in budgets.SHORT)
    budget = cfg.override(budgets.short(cfg, 6)).train
    assert budget.epochs * budget.steps_per_epoch == 6


@pytest.mark.parametrize("strategy", strategies.STRATEGIES)
def test_short_budgets_divide_into_stages(strategy):
    epochs = config.load("smoke").override(budgets.short(config.load("smoke"))).train.epochs
    shares = [s.share * epochs for s in strategies.STRATEGIES[strategy]]
    assert all(share == round(share) for share in shares)


def test_seeds_start_at_the_profiles_own():
    cfg = config.load("smoke").override({"seed": 4})
    assert budgets.seeds_of(cfg) == [4] and budgets.seeds_of(cfg, 3) == [4, 5, 6]
