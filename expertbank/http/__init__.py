"""Answers over HTTP: the protocols, and what every request goes through (extra ``serve``)."""
