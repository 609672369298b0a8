"""A section of a page is replaced where it stands; its neighbours stay."""

from __future__ import annotations

from pathlib import Path

from trading_bot.experiments.report_section import between, counted, drawn_from, table, write_section
from trading_bot.experiments.statistics import Difference


def test_a_section_is_added_and_then_replaced_in_its_place(tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.md"
    write_section(page, "## One\n\nfirst", "# Page")
    write_section(page, "## One more\n\nsecond", "# Other title")
    assert page.read_text() == "# Page\n\n## One\n\nfirst\n\n## One more\n\nsecond\n"
    write_section(page, "## One\n\n### Part\n\nagain", "# Page")
    write_section(page, "## One\n\n### Part\n\nagain", "# Page")
    assert page.read_text() == "# Page\n\n## One\n\n### Part\n\nagain\n\n## One more\n\nsecond\n"


def test_numbers_of_a_table_stand_to_the_right() -> None:
    assert table(["arm", "mean"], [["a", "1.0"]]) == "| arm | mean |\n| --- | ---: |\n| a | 1.0 |"


def test_a_difference_and_none() -> None:
    found = Difference(0.01, -0.02, 0.03, 0.5, 2, 2, 10)
    assert between(found, 100) == "+1.00 (-2.00 … +3.00)"
    assert between(found, -100) == "-1.00 (-3.00 … +2.00)"
    assert between(Difference(0.0, 0.0, 0.0, 1.0, 2, 2, 10), -100) == "+0.00 (+0.00 … +0.00)", "no minus before 0"
    assert between(None, 100) == "–"


def test_what_intervals_were_drawn_from_and_cannot_say() -> None:
    assert counted(1, "fold") == "1 fold"
    assert counted(1200, "fold") == "1,200 folds"
    assert drawn_from(10, 5) == (
        "10 seeds, 5 folds and blocks of two horizons (with 5 folds that truly differ they are somewhat too narrow)"
    )
    assert "with 3 folds that truly differ they are much too narrow" in drawn_from(10, 3)
    assert "(of one seed alone: they say nothing of others)" in drawn_from(1, 5)
    assert "2 seeds, 1 fold and blocks of two horizons (of one fold alone:" in drawn_from(2, 1)
    assert "(of one seed and one fold alone:" in drawn_from(1, 1)
