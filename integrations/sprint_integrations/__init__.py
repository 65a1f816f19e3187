"""Bridges to other software, one module each."""
