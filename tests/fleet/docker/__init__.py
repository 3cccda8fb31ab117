"""Checks of Docker itself on hosts of their own: mirrors that misbehave, the image cache."""
