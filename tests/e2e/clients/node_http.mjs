// What people use from Node: `node node_http.mjs LIBRARY ADDRESS FILE…` prints an answer a line.
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';

const [library, address, ...files] = process.argv.slice(2);

const send = {
  async fetch(form) {
    const response = await fetch(`${address}/predict`, { method: 'POST', body: form });
    return response.text();
  },
  async axios(form) {
    const { default: axios } = await import('axios');
    return JSON.stringify((await axios.post(`${address}/predict`, form)).data);
  },
}[library];

for (const file of files) {
  const form = new FormData();
  form.append('file', new Blob([await readFile(file)], { type: 'image/png' }), basename(file));
  console.log(await send(form));
}
