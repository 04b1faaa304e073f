// Usage: node page.mjs SNIPPET
//
// What the README shows for a page, in a page of https://shop.example as far as it matters: SNIPPET exports its `guest`.
// Like a browser's, `fetch` says the page's origin, and shows the page no answer that isn't meant for it.
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';

const ORIGIN = 'https://shop.example';
const stored = new Map();
globalThis.localStorage = {
  getItem: (name) => stored.get(name) ?? null,
  setItem: (name, value) => stored.set(name, String(value)),
};
let connected = true;
const plainFetch = globalThis.fetch;
globalThis.fetch = async (url, options = {}) => {
  if (!connected) throw new TypeError('no network');
  const headers = { ...options.headers, origin: ORIGIN };
  const answer = await plainFetch(url, { ...options, headers });
  const allowed = answer.headers.get('access-control-allow-origin');
  if (allowed !== ORIGIN) throw new TypeError(`an answer for ${allowed}`);
  return answer;
};

const { guest } = await import(pathToFileURL(process.argv[2]));

// The first visit makes a guest, the next ones find it again, and each answer replaces the one before.
const first = await guest();
const second = await guest();
assert.equal(sub(second), sub(first));
assert.notEqual(second.refresh_token, first.refresh_token);
assert.deepEqual(JSON.parse(stored.get('guest')), second);

// Two tabs at once get the same successor.
const [left, right] = await Promise.all([guest(), guest()]);
assert.equal(left.refresh_token, right.refresh_token);
assert.equal(sub(left), sub(first));

// Without a network the guest stays the one that is known.
const known = JSON.parse(stored.get('guest'));
connected = false;
assert.deepEqual(await guest(), known);
connected = true;
assert.equal(sub(await guest()), sub(first));

// What is refused for good makes way for another guest.
stored.set('guest', JSON.stringify({ ...known, refresh_token: 'dead' }));
assert.notEqual(sub(await guest()), sub(first));

function sub(tokens) {
  return JSON.parse(atob(tokens.access_token.split('.')[1])).sub;
}
