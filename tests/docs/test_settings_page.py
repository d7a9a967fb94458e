"""The page of settings is what the settings say."""

from __future__ import annotations

from expertbank_cli.reference import page
from transcripts import ROOT


def test_the_page_of_settings_is_made_from_them() -> None:
    shown = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert shown == page(), "run: python -m expertbank_cli.reference > docs/settings.md"
