/** What the page asks of the server. Addresses are relative, so that a proxy may add a prefix. */

/** Header tokens → sentences; the server's vocabulary is in its API documentation. */
const MEANING = {
  inverted: 'Dark ink on light paper was turned into light ink on black.',
  'transparency-flattened': 'What was transparent became paper.',
  'turned-by-exif': 'The picture was turned the way its file says.',
  squashed: 'Height and width were scaled differently: shapes are squashed.',
  blank: 'The picture is blank, so the answer means nothing.',
  'cut-off': 'The ink runs off the picture, so the answer means nothing.',
  'other-ink': 'Lines, a frame, specks or other things were left out.',
  'nothing-found': 'Nothing in it looks like ink, so the answer means nothing.',
};

/** Where the key is kept: in this tab, until it is closed. */
const KEY = 'logitserve-key';

/** Send this key with every request from now on. */
export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** Whether a key is sent. */
export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

/** The models that are served, as `GET /models` lists them. */
export async function listModels() {
  const response = await request('models');
  return (await response.json()).models;
}

/** The card of a model's latest version. */
export async function readCard(name) {
  const response = await request(`models/${encodeURIComponent(name)}`);
  return (await response.json()).card;
}

/**
 * Ask a model about a picture.
 * @returns {Promise<object>} the prediction, who gave it, and milliseconds there and back.
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

/** Tell what is true of an answer, by its id. */
export async function sendLabel(label) {
  await request('feedback', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ ...label, source: 'page' }),
  });
}

/** The picture as the model gets it, and sentences about what was done to it. */
export async function preview(name, picture, { signal }) {
  const response = await post(name, 'preview', picture, signal);
  const header = response.headers.get('Logitserve-Warnings') ?? '';
  const tokens = header.split(',').map((token) => token.trim()).filter(Boolean);
  return {
    image: await response.blob(),
    warnings: tokens.map((token) => MEANING[token] ?? token),
  };
}

/** A drawing of what in the picture speaks for a label, and what against it. */
export async function explain(name, picture, label) {
  const query = `?budget_ms=1000&label=${encodeURIComponent(label)}`;
  return (await post(name, `explain${query}`, picture, undefined, 'image/png')).blob();
}

function post(name, what, picture, signal, accept = '*/*') {
  return request(`models/${encodeURIComponent(name)}/${what}`, {
    method: 'POST',
    // Which format it is, its own bytes tell, and better than a file's name.
    headers: { 'Content-Type': 'application/octet-stream', Accept: accept },
    body: picture,
    signal,
  });
}

/** Why there is no answer, in words for people; it may pass, and then trying again helps. */
class NoAnswerError extends Error {
  constructor(message, { passing, needsKey = false, ...options }) {
    super(message, options);
    this.passing = passing;
    this.needsKey = needsKey;
  }
}

/** Statuses of a server that is busy, starting or broken; all others are about the request. */
function mayPass(status) {
  return status === 408 || status === 429 || status >= 500;
}

/** A response with a good status, or a NoAnswerError. */
async function request(address, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key && { 'X-API-Key': key }) };
  let response;
  try {
    response = await fetch(address, { ...options, headers });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new NoAnswerError('The server does not answer. See whether it is running.', {
      cause: error,
      passing: true,
    });
  }
  if (response.ok) return response;
  if (response.status === 401) {
    const message = key ? 'This key is not valid here.' : 'This service asks for a key.';
    throw new NoAnswerError(message, { passing: false, needsKey: true });
  }
  throw new NoAnswerError(await detailOf(response), { passing: mayPass(response.status) });
}

/** What a problem document says (RFC 9457), or else its status. */
async function detailOf(response) {
  const status = `The server answered ${response.status} ${response.statusText}`.trim();
  const problem = await response.json().catch(() => ({}));
  return problem.detail ?? `${status}.`;
}

/** Sum of the durations of a `Server-Timing` header, in milliseconds. */
function summed(header) {
  const durations = header.matchAll(/dur=([\d.]+)/g);
  return Array.from(durations, (match) => Number(match[1])).reduce((sum, each) => sum + each, 0);
}
