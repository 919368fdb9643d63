"""Kernels: one package per operation."""
