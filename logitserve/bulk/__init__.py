"""Scoring more pictures than one run should lose: sources → units → parts.

A unit is some pictures of a source (`sources`). A `Scorer` turns a unit into a part, the bytes of a
Parquet file (`scorer`); an engine (`local`, `ray_actors`) only runs scorers somewhere; one process,
the one that was started, writes parts into the folder (`folder`), so that each is there once.
"""
