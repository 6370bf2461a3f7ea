"""Benchmarks as commands: what is compared runs interleaved in one process, and medians and ratios are told."""
