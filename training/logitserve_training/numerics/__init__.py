"""Round-off, losses, optimizers and heads, measured: what `docs/numerics.md` shows.

Each topic is a file that measures and returns figures; `plots` draws them, `page` fills them
into the text, and `run` does all of it.
"""
