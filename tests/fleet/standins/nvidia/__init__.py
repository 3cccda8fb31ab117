"""Stand-ins for what NVIDIA's driver and container toolkit put on a host. Nothing here talks to a GPU."""
