"""The leaderboard: results collected into ranked entries, their statistics, and the files that people read.

`collect.build_board` reads the result store, `render.write` writes ``leaderboard.json``, ``.csv``, ``.md`` and
``index.html``. The board is a projection: it can be built again from the results at any time.
"""
