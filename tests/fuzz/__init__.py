"""Frames that no honest station sends, made from the schemas of every version."""
