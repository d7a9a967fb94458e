"""Conformance suites that anyone can run against a store or registry of their own."""
