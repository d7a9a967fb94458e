"""Conformance suites that anyone can run against a kind, gate, store or registry of their own.

``routers`` fits a whole router without a bank.
"""
