"""The shell commands of the adaptive loss's first specification, as they stand there, with scripts mapped to verbs.

Each trains one epoch only. Where the folder with the original text is at hand, the commands are held against it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.conftest import Verb
from tests.training.forecasting import swinging
from trading_bot.features.compute import feature_matrix
from trading_bot.features.selection import FeatureSelector
from trading_bot.features.selection_config import save
from trading_bot.features.windows import forward_returns
from trading_bot.market_data.candle_writing import FORMATS

SEED = next((Path(__file__).parents[3] / "shared" / "seeds").glob("000_*.md"), Path("000.md"))
VERBS = {"train_deepseek_adaptive.py": "train-adaptive", "run_main.py": "train"}
CHOSEN = "./feature_selection_results/feature_selection_config.json"
COMMANDS = [
    "python train_deepseek_adaptive.py --loss_combination trading_focused",
    "python train_deepseek_adaptive.py --loss_combination comprehensive --adaptation_strategy performance_based "
    "--adaptation_frequency 50",
    "python train_deepseek_adaptive.py --data CRYPTEX_ENHANCED_OPTIMIZED --loss_combination trading_focused "
    f"--feature_selection_config {CHOSEN}",
    "python run_main.py --loss DLF --model_id DeepSeek_Fixed_DLF",
    "python train_deepseek_adaptive.py --loss_combination trading_focused --model_id DeepSeek_Adaptive_Trading",
    "python train_deepseek_adaptive.py --loss_combination directional_focused",
    "python train_deepseek_adaptive.py --loss_combination robust_prediction",
    "python train_deepseek_adaptive.py --loss_combination basic",
    "python train_deepseek_adaptive.py --adaptation_strategy performance_based",
    "python train_deepseek_adaptive.py --adaptation_strategy learning_based",
    "python train_deepseek_adaptive.py --adaptation_strategy hybrid",
]


def split(command: str) -> list[str]:
    """Its verb and flags."""
    script, *flags = shlex.split(command)[1:]
    return [VERBS[script], *flags]


@pytest.fixture
def market(home: Path) -> None:
    """Candles that the configuration names, and features chosen from them."""
    candles = swinging(900)
    FORMATS["csv"][1](home / "BTC_USDT-1h.csv", candles)
    (home / "config").mkdir()
    (home / "config/paper.yaml").write_text("market:\n  candles: BTC_USDT-1h.csv\n  history: 900\n")
    matrix, returns = feature_matrix(candles), forward_returns(candles, 3)
    rows = matrix.index < len(returns)
    table = pd.DataFrame(matrix.values.T[rows], columns=list(matrix.names))
    path = home / CHOSEN
    path.parent.mkdir()
    save(FeatureSelector(k=5).fit(table, returns[matrix.index[rows]]), path)


@pytest.mark.usefixtures("market")
@pytest.mark.parametrize("command", COMMANDS)
def test_command(verb: Verb, home: Path, command: str) -> None:
    words = split(command)
    verb(*words, "--epochs", "1")
    folder, name = ("runs/*", "run.json") if words[0] == "train" else ("adaptive/*", "report.json")
    assert list(home.glob(f"logs/{folder}/{name}"))


@pytest.mark.skipif(not SEED.is_file(), reason=f"the original text is not here: {SEED.name}")
def test_these_are_all_the_commands_there_are() -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", SEED.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [" ".join(line.split()) for line in lines if line and not line.startswith("#")]
    assert found == COMMANDS
