"""Turning results into what people read: words, Markdown, pages. Pure functions to text."""
