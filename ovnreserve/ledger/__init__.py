"""SQLite: intent, state and the journal of everything that ever happened."""
