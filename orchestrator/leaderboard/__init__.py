"""The leaderboard: results collected into ranked entries, their statistics, and the files that people read.

`board.build_board` reads the result store, `site.write.write` writes the pages (``index.html``, ``compare.html``,
``entries/<id>.html``) and ``leaderboard.json``, ``.csv``, ``.md`` and ``schema.json``. The board is a projection: it
can be built again from the results at any time.
"""
