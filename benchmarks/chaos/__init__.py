"""Agents, functions, policies and servers that misbehave at random, for ``benchmarks/soak.py``."""
