"""STAND-IN of nvidia-smi: replays a profile in the formats of drivers 590 to 595. It never talks to a GPU."""
