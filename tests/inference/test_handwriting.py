import numpy as np

from inference.handwriting import is_normalized, normalize


def test_a_blank_picture_becomes_black() -> None:
    assert not normalize(np.full((40, 30), 200, np.uint8), None).any()


def test_the_result_is_normalized() -> None:
    picture = np.full((90, 60), 240, np.uint8)
    picture[20:70, 25:32] = 30
    digit = normalize(picture, None)
    assert is_normalized(digit)
    assert normalize(digit, None) is digit
