/** Requests to the server. URLs are relative, so that a proxy can add a prefix. */

/** Header tokens → sentences; the server's vocabulary is in its API documentation. */
const MEANING = {
  inverted: 'Dark ink on light paper was inverted to light ink on black.',
  'transparency-flattened': 'Transparent areas were filled with paper.',
  'turned-by-exif': 'The picture was rotated by its EXIF orientation.',
  squashed: 'Height and width were scaled differently, so shapes are distorted.',
  blank: 'The picture is blank, so the prediction is meaningless.',
  'cut-off': 'The ink crosses the border, so the prediction is meaningless.',
  'other-ink': 'Lines, a frame, specks or other objects were removed.',
  'nothing-found': 'No ink was found, so the prediction is meaningless.',
};

/** Session storage item of the key, kept until the tab is closed. */
const KEY = 'logitserve-key';

/** Send this key with all further requests. */
export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** Return whether a key is sent. */
export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

/** The served models, as in `GET /models`. */
export async function listModels() {
  const response = await request('models');
  return (await response.json()).models;
}

/** Return the card of a model's latest version. */
export async function readCard(name) {
  const response = await request(`models/${encodeURIComponent(name)}`);
  return (await response.json()).card;
}

/**
 * Get a model's prediction for a picture.
 * @returns {Promise<object>} the prediction, its model and version, and the latency.
 */
export async function predict(name, picture, { topK, signal }) {
  const query = topK ? `?top_k=${topK}` : '';
  const sent = performance.now();
  const response = await post(name, `predict${query}`, picture, signal);
  const answer = await response.json();
  return {
    json: answer,
    prediction: answer.predictions[0],
    model: answer.model,
    version: answer.version,
    milliseconds: performance.now() - sent,
    inServer: summed(response.headers.get('Server-Timing') ?? ''),
  };
}

/** Send the true label of a prediction, by its id. */
export async function sendLabel(label) {
  await request('feedback', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ ...label, source: 'page' }),
  });
}

/** Return the network's input, and warnings about the preprocessing. */
export async function preview(name, picture, { signal }) {
  const response = await post(name, 'preview', picture, signal);
  const header = response.headers.get('Logitserve-Warnings') ?? '';
  const tokens = header.split(',').map((token) => token.trim()).filter(Boolean);
  return {
    image: await response.blob(),
    warnings: tokens.map((token) => MEANING[token] ?? token),
  };
}

/** Return an image of the evidence in a picture for and against a label. */
export async function explain(name, picture, label) {
  const query = `?budget_ms=1000&label=${encodeURIComponent(label)}`;
  return (await post(name, `explain${query}`, picture, undefined, 'image/png')).blob();
}

function post(name, what, picture, signal, accept = '*/*') {
  return request(`models/${encodeURIComponent(name)}/${what}`, {
    method: 'POST',
    // The server detects the format from the bytes, which is more reliable than the file name.
    headers: { 'Content-Type': 'application/octet-stream', Accept: accept },
    body: picture,
    signal,
  });
}

/** Why there is no answer, as a message for users; `passing`: a retry may help. */
class NoAnswerError extends Error {
  constructor(message, { passing, needsKey = false, ...options }) {
    super(message, options);
    this.passing = passing;
    this.needsKey = needsKey;
  }
}

/** Whether a status is temporary; all others are caused by the request. */
function mayPass(status) {
  return status === 408 || status === 429 || status >= 500;
}

/** Return a successful response, or throw a NoAnswerError. */
async function request(address, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key && { 'X-API-Key': key }) };
  let response;
  try {
    response = await fetch(address, { ...options, headers });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new NoAnswerError('The server does not answer. Check that it is running.', {
      cause: error,
      passing: true,
    });
  }
  if (response.ok) return response;
  if (response.status === 401) {
    const message = key ? 'This key is not valid.' : 'This service needs a key.';
    throw new NoAnswerError(message, { passing: false, needsKey: true });
  }
  throw new NoAnswerError(await detailOf(response), { passing: mayPass(response.status) });
}

/** Return the detail of a problem document (RFC 9457), or the status. */
async function detailOf(response) {
  const status = `The server answered ${response.status} ${response.statusText}`.trim();
  const problem = await response.json().catch(() => ({}));
  return problem.detail ?? `${status}.`;
}

/** Return the sum of the durations in a `Server-Timing` header, in milliseconds. */
function summed(header) {
  const durations = header.matchAll(/dur=([\d.]+)/g);
  return Array.from(durations, (match) => Number(match[1])).reduce((sum, each) => sum + each, 0);
}
