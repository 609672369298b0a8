"""The one table of features: what computes them, with what parameters, after how many bars, under which names.

An own indicator takes one entry: `INDICATORS["mine"] = Indicator(function, {"period": 9}, 9, ("mine_9",))`, or hand a
table of your own to `feature_matrix`. `function(candles, out, **parameters)` writes float32 `out` (columns, n).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trading_bot.features import price_features as price
from trading_bot.features import volume_features as volume


@dataclass(frozen=True, slots=True)
class Indicator:
    """One entry of the table.

    `warmup` is the number of leading rows that are NaN; a row t must come from candles ≤ t alone.
    """

    function: Callable[..., None]
    parameters: Mapping[str, Any]
    warmup: int
    columns: tuple[str, ...]


BANDS = ("upper", "middle", "lower")

INDICATORS: dict[str, Indicator] = {
    # 1–34
    "sma_10": Indicator(price.close_over_sma, {"period": 10}, 9, ("close_over_sma_10",)),
    "sma_20": Indicator(price.close_over_sma, {"period": 20}, 19, ("close_over_sma_20",)),
    "sma_50": Indicator(price.close_over_sma, {"period": 50}, 49, ("close_over_sma_50",)),
    "ema_12": Indicator(price.close_over_ema, {"period": 12}, 11, ("close_over_ema_12",)),
    "ema_26": Indicator(price.close_over_ema, {"period": 26}, 25, ("close_over_ema_26",)),
    "macd": Indicator(
        price.macd, {"fast": 12, "slow": 26, "signal": 9}, 33, ("macd_line", "macd_signal", "macd_histogram")
    ),
    "rsi_14": Indicator(price.rsi, {"period": 14}, 14, ("rsi_14",)),
    "stochastic": Indicator(
        price.stochastic, {"period": 14, "slowing": 3, "signal": 3}, 17, ("stochastic_k", "stochastic_d")
    ),
    "cci_20": Indicator(price.cci, {"period": 20}, 19, ("cci_20",)),
    "roc_12": Indicator(price.rate_of_change, {"period": 12}, 12, ("roc_12",)),
    "trix_15": Indicator(price.trix, {"period": 15}, 43, ("trix_15",)),
    "atr_14": Indicator(price.atr, {"period": 14}, 14, ("atr_14",)),
    "bollinger_20": Indicator(
        price.bollinger,
        {"period": 20, "deviations": 2.0},
        19,
        (*(f"bollinger_20_{band}" for band in BANDS), "bollinger_20_width", "bollinger_20_percent_b"),
    ),
    "keltner_20": Indicator(
        price.keltner, {"period": 20, "ranges": 2.0}, 20, tuple(f"keltner_20_{band}" for band in BANDS)
    ),
    "on_balance_20": Indicator(volume.on_balance, {"period": 20}, 20, ("on_balance_20",)),
    "accumulation_20": Indicator(volume.accumulation, {"period": 20}, 20, ("accumulation_20",)),
    "mfi_14": Indicator(volume.money_flow, {"period": 14}, 14, ("mfi_14",)),
    "vwap_20": Indicator(volume.close_over_vwap, {"period": 20}, 19, ("close_over_vwap_20",)),
    "adx_14": Indicator(price.adx, {"period": 14}, 27, ("adx_14",)),
    "simple_return": Indicator(price.simple_return, {}, 1, ("simple_return",)),
    "log_return": Indicator(price.log_return, {}, 1, ("log_return",)),
    "high_over_low": Indicator(price.high_over_low, {}, 0, ("log_high_over_low",)),
    "close_over_open": Indicator(price.close_over_open, {}, 0, ("log_close_over_open",)),
    "volume_trend": Indicator(volume.volume_trend, {"fast": 20, "slow": 100}, 99, ("log_volume_20_over_100",)),
    "relative_volume_20": Indicator(volume.relative_volume, {"period": 20}, 19, ("log1p_relative_volume_20",)),
    # 35–40
    "realised_volatility_20": Indicator(price.realised_volatility, {"period": 20}, 20, ("realised_volatility_20",)),
    "parkinson_20": Indicator(price.parkinson_volatility, {"period": 20}, 19, ("parkinson_volatility_20",)),
    "gap": Indicator(price.gap, {}, 1, ("gap",)),
    "amihud_20": Indicator(volume.amihud, {"period": 20}, 20, ("amihud_20",)),
    "hour_of_week": Indicator(volume.hour_of_week, {}, 0, ("hour_of_week_sine", "hour_of_week_cosine")),
}

CANDIDATES: dict[str, Indicator] = {
    **INDICATORS,
    **{
        f"sma_{n}": Indicator(price.close_over_sma, {"period": n}, n - 1, (f"close_over_sma_{n}",))
        for n in (5, 100, 200)
    },
    **{f"ema_{n}": Indicator(price.close_over_ema, {"period": n}, n - 1, (f"close_over_ema_{n}",)) for n in (50, 100)},
    **{f"rsi_{n}": Indicator(price.rsi, {"period": n}, n, (f"rsi_{n}",)) for n in (7, 21)},
    **{f"roc_{n}": Indicator(price.rate_of_change, {"period": n}, n, (f"roc_{n}",)) for n in (3, 24, 48, 168)},
    **{f"atr_{n}": Indicator(price.atr, {"period": n}, n, (f"atr_{n}",)) for n in (7, 28)},
    "cci_40": Indicator(price.cci, {"period": 40}, 39, ("cci_40",)),
    **{f"adx_{n}": Indicator(price.adx, {"period": n}, 2 * n - 1, (f"adx_{n}",)) for n in (7, 28)},
    "mfi_28": Indicator(volume.money_flow, {"period": 28}, 28, ("mfi_28",)),
    "bollinger_50": Indicator(
        price.bollinger,
        {"period": 50, "deviations": 2.0},
        49,
        (*(f"bollinger_50_{band}" for band in BANDS), "bollinger_50_width", "bollinger_50_percent_b"),
    ),
    "williams_14": Indicator(price.williams, {"period": 14}, 13, ("williams_14",)),
    "aroon_25": Indicator(price.aroon, {"period": 25}, 25, ("aroon_25",)),
    "ultimate": Indicator(price.ultimate, {"short": 7, "middle": 14, "long": 28}, 28, ("ultimate",)),
    "efficiency_20": Indicator(price.efficiency, {"period": 20}, 20, ("efficiency_20",)),
    "highest_50": Indicator(price.close_over_highest, {"period": 50}, 49, ("close_over_highest_50",)),
    "lowest_50": Indicator(price.close_over_lowest, {"period": 50}, 49, ("close_over_lowest_50",)),
    "shape": Indicator(price.shape, {}, 0, ("body", "upper_shadow", "lower_shadow", "close_location")),
    **{
        f"log_return_lag_{n}": Indicator(price.log_return, {"lag": n}, n + 1, (f"log_return_lag_{n}",))
        for n in (1, 2, 3, 5, 8, 12, 24)
    },
    "realised_volatility_60": Indicator(price.realised_volatility, {"period": 60}, 60, ("realised_volatility_60",)),
    "parkinson_60": Indicator(price.parkinson_volatility, {"period": 60}, 59, ("parkinson_volatility_60",)),
    "volume_trend_short": Indicator(volume.volume_trend, {"fast": 5, "slow": 20}, 19, ("log_volume_5_over_20",)),
    "volume_change": Indicator(volume.volume_change, {}, 20, ("volume_change",)),
    "on_balance_60": Indicator(volume.on_balance, {"period": 60}, 60, ("on_balance_60",)),
    "accumulation_60": Indicator(volume.accumulation, {"period": 60}, 60, ("accumulation_60",)),
    "vwap_60": Indicator(volume.close_over_vwap, {"period": 60}, 59, ("close_over_vwap_60",)),
    "relative_volume_60": Indicator(volume.relative_volume, {"period": 60}, 59, ("log1p_relative_volume_60",)),
    "amihud_60": Indicator(volume.amihud, {"period": 60}, 60, ("amihud_60",)),
}

BUILT_IN = frozenset(id(indicator) for indicator in CANDIDATES.values())  # whatever is registered later is not ours


def column_names(table: Mapping[str, Indicator] = INDICATORS) -> tuple[str, ...]:
    """The names of a table's columns, in order."""
    return tuple(name for indicator in table.values() for name in indicator.columns)
