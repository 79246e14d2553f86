"""What every chapter uses; imports nothing of ours but itself."""
