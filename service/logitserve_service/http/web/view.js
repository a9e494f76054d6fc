/** Display of models, predictions and errors. */

/** Maximum number of labels shown; of more labels, the most probable ones in order. */
export const MOST_BARS = 20;

/** Maximum length of a label in large letters. */
const SHORT = 4;

const NOTHING = '–';

/** Maximum number of previous predictions. */
const MOST_BEFORE = 6;

const percent = new Intl.NumberFormat('en', {
  style: 'percent',
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
});

const part = Object.fromEntries(
  Array.from(document.querySelectorAll('[id]'), (element) => [element.id, element]),
);

export function showModels(models, chosen) {
  part.model.replaceChildren(
    ...models.map(({ name }) => new Option(name, name, name === chosen, name === chosen)),
  );
}

export function showCard(card) {
  const { height, width, channels } = card.input;
  part.card.href = `models/${encodeURIComponent(card.name)}`;
  part.description.textContent = card.description;
  part.truth.multiple = card.thresholds !== null; // multi-label: any number of labels
  part.truth.required = !part.truth.multiple;
  part.truth.replaceChildren(
    ...(part.truth.multiple ? [] : [new Option('choose', '')]),
    ...card.labels.map((label) => new Option(label)),
  );
  part.shape.textContent = `${height} × ${width} pixels, ${channels === 1 ? 'gray' : 'color'}`;
}

/** Show that there is no prediction. */
export function showNothing(card) {
  part.label.textContent = NOTHING;
  part.label.removeAttribute('data-long');
  part.probability.textContent = '';
  part.unknown.hidden = true;
  part.feedback.hidden = true;
  part.answer.hidden = true;
  part.save.hidden = true;
  part.latency.textContent = '';
  part.warnings.replaceChildren();
  part.why.disabled = true;
  hideWhy();
  hideSeen();
  showBars(card, card && card.labels.length <= MOST_BARS ? card.labels : [], null);
}

export function showAnswer(card, answer) {
  const { prediction } = answer;
  part.why.disabled = true; // until the preview is shown
  hideWhy();
  // A multi-label model gives all predicted labels, other models the most probable one.
  const won = prediction.labels ?? [prediction.label];
  part.label.textContent = won.length ? won.join(', ') : 'none';
  part.label.toggleAttribute('data-long', part.label.textContent.length > SHORT);
  part.probability.textContent = prediction.labels ? '' : rounded(prediction.probability);
  part.unknown.hidden = prediction.known !== false;
  part.feedback.hidden = !prediction.id;
  showThanks('');
  part.json.textContent = JSON.stringify(answer.json, null, 2);
  part.answer.hidden = false;
  showBars(card, Object.keys(prediction.probabilities), prediction);
  part.latency.textContent =
    `${answer.model}, version ${answer.version}, latency ${answer.milliseconds.toFixed(1)} ms, ` +
    `${answer.inServer.toFixed(1)} ms of it in the server.`;
}

export function showPreview(card, { image, warnings }) {
  const previous = part.seen.src;
  part.seen.src = URL.createObjectURL(image);
  if (previous) URL.revokeObjectURL(previous);
  part.seen.alt = `Your picture as the input of ${card.name}, enlarged`;
  const said = `${part.label.textContent} ${part.probability.textContent}`.trim();
  part.seen.dataset.answer = `${said}, ${card.name}`; // of the same picture
  part.seen.hidden = false;
  part.why.disabled = false;
  part.warnings.replaceChildren(...warnings.map((text) => element('li', '', text)));
}

/** Show the evidence in the picture for and against a label. */
export function showWhy(label, image) {
  hideWhy();
  part.map.src = URL.createObjectURL(image);
  part.map.alt = `Your picture with evidence for ${label} in blue, and against it in red`;
  part.legend.replaceChildren(
    element('p', 'for', `Blue, with +: evidence for ${label}.`),
    element('p', 'against', 'Red, with −: evidence against it.'),
    element('p', 'quiet', 'The stronger the color, the more the prediction changes without it.'),
  );
  part.map.hidden = false;
}

function hideWhy() {
  if (part.map.src) URL.revokeObjectURL(part.map.src);
  part.map.removeAttribute('src');
  part.map.hidden = true;
  part.legend.replaceChildren();
}

/** Show the result of sending a label. */
export function showThanks(text) {
  part.thanks.textContent = text;
}

/** Offer the picture as a download. */
export function showPicture(blob, name) {
  URL.revokeObjectURL(part.save.href);
  part.save.href = URL.createObjectURL(blob);
  part.save.download = name;
  part.save.hidden = false;
}

/** Add the prediction and the network's input to the previous predictions. */
export function remember() {
  if (part.seen.hidden) return;
  const image = document.createElement('img');
  image.src = part.seen.src; // now owned here, so the next preview does not revoke the URL
  image.alt = '';
  part.seen.removeAttribute('src');
  const entry = element('li', '', part.seen.dataset.answer);
  entry.prepend(image);
  part.history.prepend(entry);
  const old = part.history.children[MOST_BEFORE];
  if (old) {
    URL.revokeObjectURL(old.firstElementChild.src);
    old.remove();
  }
  part.before.hidden = false;
}

export function showSnippet(text) {
  part.snippet.textContent = text;
  part.copied.textContent = '';
}

/** Copy the code; browsers allow this only over https and on localhost. */
export async function copySnippet() {
  try {
    await navigator.clipboard.writeText(part.snippet.textContent);
    part.copied.textContent = 'Copied.';
  } catch {
    getSelection().selectAllChildren(part.snippet);
    part.copied.textContent = 'Selected. This browser allows copying only over https.';
  }
}

/** Keep screen readers from announcing a prediction that is not final. */
export function showBusy(busy) {
  part.result.setAttribute('aria-busy', String(busy));
}

/** Show an error; `again`: with a button to try again. */
export function showError(text, { again = false, needsKey = false } = {}) {
  part.error.textContent = text;
  part.again.hidden = !again;
  part['ask-key'].hidden = !needsKey;
  part.trouble.hidden = text === '';
}

function hideSeen() {
  if (part.seen.src) URL.revokeObjectURL(part.seen.src);
  part.seen.removeAttribute('src');
  part.seen.hidden = true;
}

/** Show one row per label; rows are reused for equal labels, so that the bars move. */
function showBars(card, labels, prediction) {
  const names = JSON.stringify([card?.name, labels]);
  if (part.bars.dataset.names !== names) {
    part.bars.dataset.names = names;
    part.bars.replaceChildren(...labels.map((label) => row(label, thresholdOf(card, label))));
  }
  const won = prediction ? (prediction.labels ?? [prediction.label]) : [];
  labels.forEach((label, index) => {
    const probability = prediction?.probabilities[label];
    const bar = part.bars.children[index];
    bar.toggleAttribute('data-won', won.includes(label));
    bar.querySelector('.fill').style.width = `${100 * (probability ?? 0)}%`;
    bar.querySelector('.value').textContent = prediction ? rounded(probability) : NOTHING;
  });
}

function row(label, threshold) {
  const bar = element('li');
  const track = element('span', 'track');
  track.setAttribute('aria-hidden', 'true');
  track.append(element('span', 'fill'));
  bar.append(element('span', 'name', label), track, element('span', 'value'));
  if (threshold !== null) {
    const mark = element('span', 'mark');
    mark.style.left = `${100 * threshold}%`;
    mark.title = `threshold ${rounded(threshold)}`;
    track.append(mark);
    bar.append(element('span', 'unseen', `threshold ${rounded(threshold)}`));
  }
  return bar;
}

function thresholdOf(card, label) {
  return card?.thresholds?.[card.labels.indexOf(label)] ?? null;
}

/** Format a probability; those near 0 and 1 are not rounded to 0 % and 100 %. */
function rounded(probability) {
  if (probability > 0.9995 && probability < 1) return '> 99.9%';
  if (probability < 0.0005 && probability > 0) return '< 0.1%';
  return percent.format(probability);
}

function element(name, className = '', text = '') {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}
