"""The numbers: right, the same in every form, for every model, in the order of the images."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from scipy.special import expit, softmax

from tests.e2e.conftest import (
    COLOR,
    FOREIGN,
    SCENE_LABELS,
    SCENE_THRESHOLDS,
    Reference,
    Weights,
)
from tests.e2e.process import Server
from tests.forms import (
    FORMS,
    HTTP_FORMS,
    OWN_FORMS,
    RAW,
    V2_JSON,
    Ask,
    Form,
    Probabilities,
    predictions,
    v2_outputs,
)
from tests.tiny_models import DIGIT_LABELS, linear_logits, random_picture

TOLERANCE = 1e-6
# Where the reference is float64 from the pixels on, and the network float32.
FROM_PIXELS = 1e-5

each_form = pytest.mark.parametrize("form", FORMS, ids=str)
each_own_form = pytest.mark.parametrize("form", OWN_FORMS, ids=str)
each_model = pytest.mark.parametrize("model", ["digits", "adopted"])


def asked(server: Server, form: Form, images: npt.NDArray[np.uint8], model: str) -> Probabilities:
    """Probabilities of all images: in one request, or in concurrent ones where it carries one."""
    if form.many:
        return form.read(form.send(server, Ask(list(images), model)))
    with ThreadPoolExecutor(16) as pool:
        replies = pool.map(lambda image: form.send(server, Ask([image], model)), images)
        return np.concatenate([form.read(reply) for reply in replies])


@each_model
@each_form
def test_two_hundred_images_have_the_right_numbers_in_their_order(
    server: Server, references: dict[str, Reference], form: Form, model: str
) -> None:
    reference = references[model]
    found = asked(server, form, reference.images, model=model)
    np.testing.assert_allclose(found, reference.probabilities, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=TOLERANCE)


def test_an_adopted_model_gives_what_its_own_graph_gives(references: dict[str, Reference]) -> None:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = (references["adopted"].images / 255 - mean) / std
    session = onnxruntime.InferenceSession(FOREIGN, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: pixels.transpose(0, 3, 1, 2).astype(np.float32)}
    (found,) = session.run(None, given)
    np.testing.assert_allclose(found, references["adopted"].probabilities, atol=FROM_PIXELS)


@each_model
def test_concurrent_requests_of_all_forms_do_not_mix(
    server: Server, references: dict[str, Reference], model: str
) -> None:
    reference = references[model]
    work = [(HTTP_FORMS[n % len(HTTP_FORMS)], n % 50, 1 + n % 3) for n in range(120)]

    def one(job: tuple[Form, int, int]) -> Probabilities:
        form, first, count = job
        images = list(reference.images[first : first + count])
        return form.read(form.send(server, Ask(images, model=model)))

    with ThreadPoolExecutor(16) as pool:
        for (form, first, count), found in zip(work, pool.map(one, work), strict=True):
            last = first + (count if form.many else 1)
            np.testing.assert_allclose(
                found, reference.probabilities[first:last], atol=TOLERANCE, rtol=0
            )


@each_form
@pytest.mark.parametrize(
    ("version", "key"), [("", "digits/2"), ("1", "digits/1"), ("2", "digits/2")]
)
def test_the_path_chooses_the_version(
    server: Server, weights: Weights, form: Form, version: str, key: str
) -> None:
    image = random_picture(7)
    found = form.read(form.send(server, Ask([image], version=version)))
    expected = softmax(linear_logits(image[None], weights[key]), axis=1)
    np.testing.assert_allclose(found, expected, atol=FROM_PIXELS)


@each_form
def test_each_head_and_the_temperature_are_applied_once(
    server: Server, weights: Weights, form: Form
) -> None:
    image, scene = random_picture(6), random_picture(6, COLOR)
    zero = linear_logits(image[None], weights["zero/1"])
    for model, pixels, expected in (
        ("warm", image, softmax(linear_logits(image[None], weights["warm/1"]) / 2.5, axis=1)),
        ("zero", image, np.hstack([expit(-zero), expit(zero)])),
        ("scenes", scene, expit(linear_logits(scene[None], weights["scenes/1"]))),
    ):
        found = form.read(form.send(server, Ask([pixels], model=model)))
        np.testing.assert_allclose(found, expected, atol=FROM_PIXELS)


@each_own_form
def test_a_prediction_says_what_it_is(server: Server, weights: Weights, form: Form) -> None:
    for path_model in ("", "digits"):
        (found,) = predictions(form.send(server, Ask([random_picture(5)], model=path_model)))
        expected = softmax(linear_logits(random_picture(5)[None], weights["digits/2"])[0])
        assert tuple(found["probabilities"]) == DIGIT_LABELS
        assert found["argmax"] == expected.argmax()
        assert found["label"] == DIGIT_LABELS[expected.argmax()]
        assert found["probability"] == max(found["probabilities"].values())
        assert set(found) == {"argmax", "label", "probability", "probabilities"}


@each_own_form
def test_a_sigmoid_model_adds_the_labels_over_their_thresholds(
    server: Server, weights: Weights, form: Form
) -> None:
    for seed in range(12):
        scene = random_picture(seed, COLOR)
        (found,) = predictions(form.send(server, Ask([scene], model="scenes")))
        held = expit(linear_logits(scene[None], weights["scenes/1"])[0]) >= SCENE_THRESHOLDS
        assert found["labels"] == [n for n, h in zip(SCENE_LABELS, held, strict=True) if h]


def test_a_binary_model_says_no_and_yes(server: Server) -> None:
    seen = set()
    for seed in range(12):
        (found,) = predictions(RAW.send(server, Ask([random_picture(seed)], model="zero")))
        assert found["label"] == ("zero" if found["probabilities"]["zero"] > 0.5 else "other")
        seen.add(found["label"])
    assert seen == {"zero", "other"}


@pytest.mark.parametrize("form", [form for form in OWN_FORMS if form.files], ids=str)
def test_an_image_of_any_size_is_fitted(server: Server, form: Form) -> None:
    small = random_picture(9)
    large = np.repeat(np.repeat(small, 5, axis=0), 5, axis=1)
    (fitted,), (found,) = (predictions(form.send(server, Ask([image]))) for image in (large, small))
    assert fitted["argmax"] == found["argmax"]


def test_the_answer_names_the_model_and_the_version(server: Server) -> None:
    image = random_picture(0)
    for model, version, key in (("", "", "digits/2"), ("digits", "1", "digits/1")):
        path = RAW.target(Ask([image], model=model, version=version))
        answer = server.client.post(path, content=RAW.encode([image]).body).json()
        assert f"{answer['model']}/{answer['version']}" == key
    document, _ = v2_outputs(V2_JSON.send(server, Ask([image], version="1")))
    assert (document["model_name"], document["model_version"]) == ("digits", "1")
