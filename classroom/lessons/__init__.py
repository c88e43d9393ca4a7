"""What the quizzes of each notebook ask: one file a notebook, found by its number."""
