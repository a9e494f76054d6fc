"""Score many pictures in resumable steps: sources → units → parts.

A unit is a group of pictures of one source (`sources`). `score_unit` turns a unit into a part, the
bytes of a Parquet file (`scorer`). An engine (`local`, `ray_tasks`) decides where units are scored.
Only the process that was started writes parts into the folder (`folder`), each exactly once.
"""
