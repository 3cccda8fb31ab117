"""Dify's data through everything that may happen to it: reboot, upgrade, failed and killed upgrades, backup, restore elsewhere."""
