"""Scoring more pictures than one run should lose: sources → units → parts.

A unit is some pictures of a source (`sources`). `score_unit` turns a unit into a part, the bytes of
a Parquet file (`scorer`); an engine (`local`, `ray_tasks`) only runs that somewhere; one process,
the one that was started, writes parts into the folder (`folder`), so that each is there once.
"""
