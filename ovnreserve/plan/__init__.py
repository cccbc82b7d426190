"""What should happen: pure decisions. Views in, steps out; clock and randomness are passed in."""
