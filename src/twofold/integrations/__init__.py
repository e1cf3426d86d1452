"""Thin bridges to web frameworks, each under 150 lines."""
