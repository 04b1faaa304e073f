// Usage: node page.mjs SNIPPET
//
// What docs/browser.md shows for a page that keeps its tokens itself, in pages of https://shop.example as far as it matters: SNIPPET exports its `guest`.
// Each tab has a copy of it, and all of them one storage. Like a browser's, `fetch` says the page's origin, and shows the
// page no answer that isn't meant for it. First without Web Locks, as in browsers that lack them, then with them.
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';

const ORIGIN = 'https://shop.example';
const storage = new Map();
globalThis.localStorage = {
  getItem: (name) => storage.get(name) ?? null,
  setItem: (name, value) => storage.set(name, String(value)),
};
let network = async (send) => send();
const plainFetch = globalThis.fetch;
globalThis.fetch = async (url, options = {}) => {
  const headers = { ...options.headers, origin: ORIGIN };
  const answer = await network(() => plainFetch(url, { ...options, headers }));
  const allowed = answer.headers.get('access-control-allow-origin');
  if (allowed !== ORIGIN) throw new TypeError(`an answer for ${allowed}`);
  return answer;
};

const snippet = pathToFileURL(process.argv[2]);
const [{ guest }, { guest: guestOfTheOtherTab }] = [await import(`${snippet}?1`), await import(`${snippet}?2`)];

for (const locks of [undefined, oneAtATime()]) {
  Object.defineProperty(globalThis, 'navigator', { value: { locks }, configurable: true });
  storage.clear();

  // The first visit makes a guest, the next ones find it again, and each answer replaces the one before.
  const first = await guest();
  const second = await guest();
  assert.equal(sub(second), sub(first));
  assert.notEqual(second.refresh_token, first.refresh_token);
  assert.deepEqual(stored(), second);

  // Two tabs at once: the same guest; without a lock, the same successor.
  const [left, right] = await Promise.all([guest(), guestOfTheOtherTab()]);
  assert.equal(left.refresh_token === right.refresh_token, !locks);
  assert.deepEqual([sub(left), sub(right)], [sub(first), sub(first)]);

  // Without a network, or while the server can't answer, the guest stays the one that is known.
  const known = stored();
  for (const failure of [noNetwork, unavailable]) {
    network = failure;
    assert.deepEqual(await guest(), known);
    assert.deepEqual(stored(), known);
  }
  network = async (send) => send();
  assert.equal(sub(await guest()), sub(first));

  // A refresh is on its way for so long that the other tab has refreshed and gone on. It is refused, and the guest stays.
  if (!locks) {
    const held = hold();
    const slow = guest();
    await held.begun;
    await guestOfTheOtherTab();
    const newest = await guestOfTheOtherTab();
    held.release();
    assert.deepEqual(await slow, newest);
    assert.deepEqual(held.statuses, [400]);
    assert.deepEqual(stored(), newest);
    assert.equal(sub(newest), sub(first));
  } else {
    const held = hold();
    const slow = guest();
    await held.begun;
    const other = guestOfTheOtherTab();
    await new Promise(setImmediate);
    held.release();
    const [one, next] = [await slow, await other];
    assert.deepEqual(held.statuses, [200]);
    assert.notEqual(next.refresh_token, one.refresh_token);
    assert.deepEqual(stored(), next);
    assert.deepEqual([sub(one), sub(next)], [sub(first), sub(first)]);
  }

  // The guest has ended, and the other tab has made another one before this one reads its refusal: that one stays, in both.
  storage.set('guest', JSON.stringify({ ...known, refresh_token: 'dead' }));
  if (!locks) {
    const ended = hold();
    const late = guest();
    await ended.begun;
    const another = await guestOfTheOtherTab();
    ended.release();
    assert.deepEqual(await late, another);
    assert.deepEqual(ended.statuses, [400]);
    assert.deepEqual(stored(), another);
    assert.notEqual(sub(another), sub(first));
  } else {
    const [one, other] = await Promise.all([guest(), guestOfTheOtherTab()]);
    assert.equal(sub(other), sub(one));
    assert.notEqual(sub(one), sub(first));
  }

  // What is refused for good, and is still what is stored, makes way for another guest.
  storage.set('guest', JSON.stringify({ ...known, refresh_token: 'dead' }));
  const anew = await guest();
  assert.notEqual(sub(anew), sub(first));
  assert.deepEqual(stored(), anew);
}

// Keeps the next request from being sent until `release`; all others pass. `statuses` has what it was answered.
function hold() {
  const held = { statuses: [] };
  const released = new Promise((resolve) => (held.release = resolve));
  held.begun = new Promise((begin) => {
    network = async (send) => {
      network = async (send) => send();
      begin();
      await released;
      const answer = await send();
      held.statuses.push(answer.status);
      return answer;
    };
  });
  return held;
}

async function noNetwork() {
  throw new TypeError('no network');
}

async function unavailable() {
  const body = JSON.stringify({ error: 'temporarily_unavailable' });
  return new Response(body, { status: 503, headers: { 'access-control-allow-origin': ORIGIN } });
}

// Web Locks, as far as one name needs them: whoever asks is called when all before have ended.
function oneAtATime() {
  let last = Promise.resolve();
  return {
    request(name, callback) {
      const answer = last.then(() => callback({ name }));
      last = answer.catch(() => {});
      return answer;
    },
  };
}

function stored() {
  return JSON.parse(storage.get('guest'));
}

function sub(tokens) {
  return JSON.parse(atob(tokens.access_token.split('.')[1])).sub;
}
