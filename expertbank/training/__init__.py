"""Fitting what is fitted: one expert on the frozen backbone, or the light router.

Both are pure functions from a configuration and data to a file's contents; registering the
result is the caller's business.
"""
