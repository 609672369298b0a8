"""Training of strategies' learned models: the names users import."""

from __future__ import annotations

from trading_bot.errors import TrainingDiverged
from trading_bot.learn.adaptive_trainer import AdaptiveTrainer
from trading_bot.learn.parallel_trainer import ParallelStrategyTrainer
from trading_bot.learn.strategy_report import StrategyTrainingReport
from trading_bot.learn.training_config import TrainingConfig
from trading_bot.learn.training_progress import EpochMetrics

__all__ = [
    "AdaptiveTrainer",
    "EpochMetrics",
    "ParallelStrategyTrainer",
    "StrategyTrainingReport",
    "TrainingConfig",
    "TrainingDiverged",
]
