/** The page: classify a picture that is drawn, dropped, pasted or chosen. */

import { Asker } from './asker.js';
import { Pad } from './pad.js';
import {
  explain, hasKey, listModels, predict, preview, readCard, sendLabel, useKey,
} from './server.js';
import { LANGUAGES } from './snippets.js';
import * as view from './view.js';

const SOURCES = 'You can also drop a picture anywhere, or paste one.';

const canvas = document.getElementById('canvas');
const modelChoice = document.getElementById('model');
const fileChoices = [document.getElementById('file'), document.getElementById('camera')];
const language = document.getElementById('language');
const keyField = document.getElementById('key');
const source = document.getElementById('source');
const truth = document.getElementById('truth');

const pad = new Pad(canvas, document.getElementById('cursor'));
const asker = new Asker(answer);

/** The picture: null, `{ file }` for a file, or `{}` for the drawing. */
let picture = null;
let card = null;

/** The prediction that is shown, with its model and picture. */
let answered = null;

/** Request a prediction of the picture, debounced. */
function ask() {
  if (picture && card) asker.ask({ picture, card });
}

/** Send the request, and show the answer unless it was aborted. */
async function answer(question, signal) {
  const asked = question.card;
  try {
    const blob = question.picture.file ?? (await pad.toBlob());
    const topK = asked.labels.length > view.MOST_BARS ? view.MOST_BARS : null;
    const predicted = await predict(asked.name, blob, { topK, signal });
    if (signal.aborted) return;
    view.showError('');
    answered = { name: asked.name, blob, prediction: predicted.prediction };
    view.showAnswer(asked, predicted);
    view.showPicture(blob, nameOf(question.picture));
    showSnippet();
    const seen = await preview(asked.name, blob, { signal });
    if (!signal.aborted) view.showPreview(asked, seen);
  } catch (error) {
    if (!signal.aborted) fail(error);
  }
  view.showBusy(pad.drawing);
}

/** Show the explanation of the prediction; repeat if the prediction changed meanwhile. */
async function why() {
  const about = answered;
  if (!about) return;
  try {
    const { label } = about.prediction;
    const drawn = await explain(about.name, about.blob, label);
    if (answered !== about) {
      await why();
      return;
    }
    view.showError('');
    view.showWhy(label, drawn);
  } catch (error) {
    view.showError(error.message, { needsKey: error.needsKey });
  }
}

/** Send the true labels of the picture to the server. */
async function tell(labels) {
  const { id, labels: several } = answered.prediction;
  try {
    await sendLabel(several ? { id, labels } : { id, label: labels[0] });
    view.showThanks('Sent.');
  } catch (error) {
    view.showThanks(error.message);
  }
}

function nameOf(given) {
  return given?.file?.name || 'picture.png';
}

/** Show the request in the chosen language. */
function showSnippet() {
  if (!card) return;
  const base = new URL('.', document.baseURI).href;
  const url = new URL(`models/${encodeURIComponent(card.name)}/predict`, base).href;
  const request = { url, base, model: card.name, file: nameOf(picture), key: hasKey() };
  view.showSnippet(LANGUAGES[language.value](request));
}

function fail(error) {
  answered = null;
  view.showNothing(card);
  view.showError(error.message, { again: error.passing, needsKey: error.needsKey });
  if (error.needsKey) keyField.focus();
}

function clear() {
  asker.cancel();
  answered = null;
  view.remember();
  picture = null;
  pad.clear();
  for (const choice of fileChoices) choice.value = '';
  showSource(SOURCES, { help: true });
  canvas.parentElement.setAttribute('data-empty', '');
  view.showError('');
  view.showNothing(card);
}

/** Show the source of the picture, or how to provide one. */
function showSource(text, { help = false } = {}) {
  source.textContent = text;
  source.toggleAttribute('data-help', help);
}

/** Begin a stroke; on a picture from a file it starts a new drawing. */
function begin() {
  if (picture?.file) clear();
  picture ??= {};
  canvas.parentElement.removeAttribute('data-empty');
  view.showBusy(true);
}

function end() {
  view.showBusy(false);
  ask();
}

/** Use the first of the files as the picture. */
async function take(files) {
  if (files.length === 0) {
    view.showError('Not a picture file. Drop, paste or choose a PNG, JPEG or WebP.');
    return;
  }
  clear();
  const [file] = files;
  const taken = { file };
  picture = taken;
  canvas.parentElement.removeAttribute('data-empty');
  showSource(files.length > 1 ? `${file.name}, the first of ${files.length}` : file.name);
  ask();
  // The server gets the file itself; this is only the display.
  const image = await createImageBitmap(file).catch(() => null);
  if (picture !== taken) return;
  if (image) pad.show(image);
  else showSource(`${file.name} (this browser cannot show it)`);
}

async function choose(name) {
  asker.cancel();
  view.remember();
  card = answered = null;
  try {
    const chosen = await readCard(name);
    if (modelChoice.value !== name) return; // changed again meanwhile
    card = chosen;
    view.showCard(card);
    view.showError('');
    view.showNothing(card);
    showSnippet();
    ask();
  } catch (error) {
    fail(error);
  }
}

async function start() {
  try {
    const models = await listModels();
    if (models.length === 0) throw new Error('The server has no models.');
    const first = models.find((model) => model.default) ?? models[0];
    view.showModels(models, first.name);
    await choose(first.name);
  } catch (error) {
    fail(error);
  }
}

function tryAgain() {
  view.showError('');
  if (card?.name === modelChoice.value) ask();
  else if (modelChoice.value) choose(modelChoice.value);
  else start();
}

pad.addEventListener('begin', begin);
pad.addEventListener('ink', ask);
pad.addEventListener('end', end);
pad.addEventListener('clear', clear);
document.getElementById('clear').addEventListener('click', clear);
document.getElementById('ask-key').addEventListener('submit', (event) => {
  event.preventDefault();
  useKey(keyField.value.trim());
  keyField.value = '';
  tryAgain();
});
document.getElementById('why').addEventListener('click', why);
document.getElementById('right').addEventListener('click', () => {
  const { label, labels } = answered.prediction;
  tell(labels ?? [label]);
});
document.getElementById('feedback').addEventListener('submit', (event) => {
  event.preventDefault();
  tell(Array.from(truth.selectedOptions, (option) => option.value));
});
document.getElementById('again').addEventListener('click', tryAgain);
modelChoice.addEventListener('change', () => choose(modelChoice.value));
for (const choice of fileChoices) {
  choice.addEventListener('change', () => {
    if (choice.files.length) take(Array.from(choice.files));
  });
}
language.replaceChildren(...Object.keys(LANGUAGES).map((name) => new Option(name)));
language.addEventListener('change', showSnippet);
document.getElementById('copy').addEventListener('click', view.copySnippet);

document.addEventListener('paste', (event) => {
  if (event.clipboardData.files.length) take(Array.from(event.clipboardData.files));
});
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('dropping');
});
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) document.body.classList.remove('dropping');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('dropping');
  take(Array.from(event.dataTransfer.files));
});

clear();
start();
