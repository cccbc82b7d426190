"""Benchmarks: our figure, what a user would otherwise run, and the limit, interleaved in one run (`python -m
bench`).
"""
