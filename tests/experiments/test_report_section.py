"""A section of a page is replaced where it stands; its neighbours stay."""

from __future__ import annotations

from pathlib import Path

from trading_bot.experiments.report_section import table, write_section


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
