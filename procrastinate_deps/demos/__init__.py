"""Demos, runnable with -m."""
