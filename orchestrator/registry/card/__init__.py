"""The model card: its content, how it is computed from results, and its Markdown."""
