"""The pages of the leaderboard: what is written, where, and which files are replaced."""
