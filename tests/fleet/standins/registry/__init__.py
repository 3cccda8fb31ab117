"""Registries that misbehave."""
