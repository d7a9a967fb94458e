"""The one-pass model: experts and heads on a backbone, and what an expert is as a file."""
