"""Turning results into what people read: text, Markdown, pages. Works on plain values."""
