"""What every room stands on: the store, progress, the hardware."""
