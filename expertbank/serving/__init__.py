"""Answers for many callers at once: one queue, one worker, one state that is swapped whole.

Nothing here knows of HTTP. ``Server`` takes rows and gives futures; what speaks to the network
stands above it.
"""
