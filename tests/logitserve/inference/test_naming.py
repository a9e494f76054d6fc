from logitserve.inference.naming import absent, unknown


def test_an_unknown_name_is_answered_with_the_closest_one() -> None:
    known = {"top_k", "coverage", "calibrated"}
    assert unknown("query parameter", "topk", known) == (
        "unknown query parameter 'topk'; did you mean 'top_k'? (known: calibrated, coverage, top_k)"
    )
    assert unknown("field", "x", known) == (
        "unknown field 'x' (known: calibrated, coverage, top_k)"
    )
    assert absent("model", "digts", ["digits", "scenes"]) == (
        "no model 'digts'; did you mean 'digits'? there is digits, scenes"
    )
    assert absent("model", "digts", ["digits"], " in here") == (
        "no model 'digts' in here; did you mean 'digits'? there is digits"
    )
    assert absent("model", "cats", []) == "no model 'cats'; there is none"
