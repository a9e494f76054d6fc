// `node generated.js ADDRESS FILE…` prints an answer a line; its types are those of /openapi.json.
import { readFile } from 'node:fs/promises';
import createClient from 'openapi-fetch';
import type { components, paths } from './schema.js';

type Prediction = components['schemas']['Predictions']['predictions'][number];

const [address, ...files] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: address });

for (const file of files) {
  const image = (await readFile(file)).toString('base64');
  const { data, error } = await client.POST('/predict', { body: { images: [image] } });
  if (error) throw new Error(error.detail);
  const predictions: Prediction[] = data.predictions;
  console.log(JSON.stringify({ predictions }));
}
