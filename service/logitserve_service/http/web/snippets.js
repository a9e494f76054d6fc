/** Code that sends the request, in several languages. */

/** Language → function from `{ url, base, model, file, key }` to code. */
export const LANGUAGES = {
  curl: ({ url, file, key }) => {
    const header = key ? ' -H "X-API-Key: $LOGITSERVE_API_KEY"' : '';
    // curl interprets commas and semicolons in a file name unless it is in double quotes.
    const name = /[",;\\]/.test(file) ? `"${file.replace(/["\\]/g, '\\$&')}"` : file;
    return `curl${header} -F ${quoted(`file=@${name}`)} ${quoted(url)}`;
  },
  Python: ({ base, model, file }) =>
    'from logitserve.client import Client\n\n' +
    `with Client(${JSON.stringify(base)}) as client:\n` +
    `    prediction = client.predict(${JSON.stringify(file)}, model=${JSON.stringify(model)})\n` +
    'print(prediction.label, prediction.probability)',
  JavaScript: ({ url, key }) =>
    `const response = await fetch(${JSON.stringify(url)}, {\n` +
    "  method: 'POST',\n" +
    (key ? "  headers: { 'X-API-Key': key },\n" : '') +
    '  body: file, // a File or a Blob\n' +
    '});\n' +
    'const { predictions } = await response.json();',
};

/** Quote a word for a POSIX shell. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
