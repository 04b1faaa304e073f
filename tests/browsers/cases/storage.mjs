// The helper in a page that keeps its guest's tokens in a storage.
import assert from 'node:assert/strict';
import { until } from '../waiting.mjs';

const KEPT = { clientId: 'shop-page', storage: 'local' };
const NOBODY = { sub: null, state: 'blocked' };

export async function c351_a_tab_is_killed_on_its_way_to_a_guest({ shop, browser }) {
  const isToken = ({ url }) => url.endsWith('/oauth/token');
  for (const [where, options, holds] of [
    ['after authorize', KEPT, async (seen, forward, never) => (isToken(seen) ? never : forward())],
    ['in the exchange', KEPT, async (seen, forward, never) => {
      const answer = await forward();
      return isToken(seen) ? never : answer;
    }],
    ['before it has stored', { ...KEPT, storage: 'hanging' }, (seen, forward) => forward()],
  ]) {
    const jar = await browser.jar();
    try {
      const stays = await jar.open(shop.url('/'));
      const count = await shop.count();
      let release;
      const never = new Promise((resolve) => (release = () => resolve()));
      shop.requests = [];
      shop.rule = (seen, forward) => holds(seen, forward, never);
      const killed = await jar.open(shop.url('/helper'));
      await killed.run((options) => {
        begin(options);
        void who();
      }, options);
      await until(() => shop.requests.some(isToken) && (options === KEPT || shop.requests.find(isToken).answer));
      await killed.close();
      release();
      shop.rule = null;
      shop.requests = [];
      await stays.goto(shop.url('/helper'));
      await stays.run((options) => begin(options), KEPT);
      const { state, sub } = await stays.run(() => who());
      assert.equal(state, 'known', where);
      assert.ok(shop.requests.length <= 3, where);
      const { profiles } = await shop.count();
      assert.ok(profiles - count.profiles <= 2, where);
      await stays.reload();
      await stays.run((options) => begin(options), KEPT);
      assert.deepEqual(await stays.run(() => who()), { sub, state: 'known' }, where);
    } finally {
      await jar.close();
    }
  }
}

export async function c352_a_browser_that_keeps_nothing({ shop, jar, browser, launch, engine }) {
  const page = await jar.open(shop.url('/helper'));
  const load = async (page, options) => {
    await page.goto(shop.url('/helper'));
    await page.run((options) => begin(options), options);
    return page.run(() => who());
  };
  const unchanged = async (page, options) => {
    const count = await shop.count();
    for (let time = 0; time < 20; time += 1) {
      assert.deepEqual(await load(page, options), NOBODY, JSON.stringify(options));
    }
    assert.deepEqual(await shop.count(), count);
  };
  for (const storage of ['unreadable', 'unwritable', 'forgetful']) await unchanged(page, { ...KEPT, storage });
  await page.run(() => {
    for (let size = 1 << 20; size > 0; size = Math.floor(size / 2)) {
      try {
        for (let part = 0; part < 100; part += 1) localStorage.setItem(`filler${size}.${part}`, 'x'.repeat(size));
      } catch {
        // That was too much: try less, down to one letter.
      }
    }
  });
  await unchanged(page, KEPT);
  await page.run(() => localStorage.clear());

  // Private windows keep one guest until they are closed. WebKitGTK has no others when it is driven.
  const openPrivately = async () => {
    if (engine === 'webkitgtk') return browser.jar();
    const another = await launch('private', { privately: true });
    return { open: () => another.firstPage(), close: () => another.end() };
  };
  for (const options of [{}, KEPT]) {
    const count = await shop.count();
    const subs = new Set();
    for (let window = 0; window < 2; window += 1) {
      const jar = await openPrivately();
      const page = await jar.open();
      const ofThisWindow = new Set();
      for (let time = 0; time < 3; time += 1) {
        const { sub, state } = await load(page, options);
        assert.equal(state, 'known');
        ofThisWindow.add(sub);
      }
      assert.equal(ofThisWindow.size, 1);
      ofThisWindow.forEach((sub) => subs.add(sub));
      await jar.close();
    }
    assert.equal(subs.size, 2);
    assert.equal((await shop.count()).profiles, count.profiles + 2);
  }

  // Cookies off, by the browser's own setting.
  const without = await launch('cookieless', { cookies: false });
  const cookieless = await without.jar();
  await unchanged(await cookieless.open(), {});
  await cookieless.close();
  await without.end();
}

export async function c353_a_network_that_fails_makes_no_guest({ shop, jar }) {
  const page = await jar.open(shop.url('/helper'));
  const html = (status) => ({ status, headers: { 'content-type': 'text/html' }, body: '<html>Please log in' });
  let release;
  const faults = {
    503: () => ({ ...html(503), headers: { 'retry-after': '7' } }),
    429: () => ({ ...html(429), headers: {} }),
    offline: () => null,
    'captive portal': () => html(200),
    proxy: () => html(400),
    silence: () => new Promise((resolve) => (release = resolve)),
  };
  for (const options of [{ clientId: 'shop-shown' }, KEPT]) {
    for (const [fault, answer] of Object.entries(faults)) {
      const name = `${fault}, ${options.clientId}`;
      await page.goto(shop.url('/helper'));
      await page.run((options) => begin(options), options);
      const { sub, state } = await page.run(() => who());
      assert.equal(state, 'known', name);
      const token = await page.run(() => guest.token());
      assert.ok(token, name);
      const count = await shop.count();
      const later = (milliseconds) => page.run((by) => void (window.skew += by), milliseconds);
      await later(0.8 * 86_400_000);
      shop.rule = answer;
      shop.requests = [];
      assert.deepEqual(await page.run(() => who()), { sub, state: 'waiting' }, name);
      // A browser may itself repeat a request whose connection was cut.
      if (fault !== 'offline') assert.equal(shop.requests.length, 1, name);
      assert.equal(await page.run(() => guest.token()), token, name);
      if (fault === '503') {
        await later(6000);
        assert.deepEqual(await page.run(() => who()), { sub, state: 'waiting' }, name);
        assert.equal(shop.requests.length, 1, name);
      }
      shop.rule = null;
      release?.();
      await later(20_000);
      assert.deepEqual(await page.run(() => who()), { sub, state: 'known' }, name);
      assert.deepEqual(await shop.count(), count, name);
    }
  }
}

export async function c354_a_refusal_for_good_makes_one_new_guest({ shop, jar }) {
  const KEY = 'guestpass.shop-page';
  const refusal = {
    status: 400,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ error: 'invalid_grant' }),
  };
  const page = await jar.open(shop.url('/helper'));
  const other = await jar.open(shop.url('/helper'));
  const makeDead = (page) => page.run((key) => {
    const stored = JSON.parse(localStorage.getItem(key));
    localStorage.setItem(key, JSON.stringify({ ...stored, r: `dead${Math.random()}`, at: 0 }));
  }, KEY);
  const load = async () => {
    await page.goto(shop.url('/helper'));
    await page.run((options) => begin(options), KEPT);
  };
  await load();
  const first = await page.run(() => who());
  assert.equal(first.state, 'known');

  await makeDead(page);
  await load();
  const count = await shop.count();
  const second = await page.run(() => who());
  assert.equal(second.state, 'known');
  assert.notEqual(second.sub, first.sub);
  assert.deepEqual(await page.run(() => who()), second);
  assert.equal((await shop.count()).profiles, count.profiles + 1);

  // While the refusal is on its way, another tab stores a guest of its own.
  const newer = await page.run((key) => localStorage.getItem(key), KEY);
  await makeDead(page);
  await load();
  shop.requests = [];
  const intruded = new Promise((resolve) => {
    shop.rule = async (seen, forward) => {
      const answer = await forward();
      if (answer.status === 400) await other.run((key, newer) => localStorage.setItem(key, newer), KEY, newer);
      resolve();
      return answer;
    };
  });
  await page.run(() => void (window.found = who()));
  await intruded;
  assert.deepEqual(await page.run(() => found), second);
  assert.equal(shop.requests.length, 1);
  assert.equal((await shop.count()).profiles, count.profiles + 1);

  // Refused again and again: no loop.
  await makeDead(page);
  await load();
  shop.requests = [];
  shop.rule = async (seen, forward) => (seen.url.endsWith('/oauth/token') ? refusal : forward());
  const { sub } = await page.run(() => who());
  assert.equal(sub, null);
  assert.equal(shop.requests.length, 3);
  await page.run(() => who());
  assert.equal(shop.requests.length, 3);
}

export async function c359_the_documented_snippet_makes_one_new_guest({ shop, jar }) {
  const page = await jar.open(shop.url('/documented'));
  const kill = async () => {
    await page.run(() => guest());
    await page.run(() => {
      const stored = JSON.parse(localStorage.getItem('guest'));
      localStorage.setItem('guest', JSON.stringify({ ...stored, refresh_token: 'dead' }));
    });
  };
  const sub = ({ access_token }) => JSON.parse(Buffer.from(access_token.split('.')[1], 'base64url')).sub;
  const stored = async () => sub(JSON.parse(await page.run(() => localStorage.getItem('guest'))));

  // In two tabs, without locks: the second reads its refusal when the first is done.
  await page.run(() => void localStorage.removeItem('guest'));
  await kill();
  const old = await stored();
  const second = await jar.open(shop.url('/documented'));
  for (const tab of [page, second]) {
    await tab.run(() => Object.defineProperty(navigator, 'locks', { value: undefined }));
  }
  const count = await shop.count();
  let release;
  const released = new Promise((resolve) => (release = resolve));
  let asked = 0;
  shop.rule = async (seen, forward) => {
    const mine = seen.url.endsWith('/oauth/token') && (asked += 1);
    const answer = await forward();
    if (mine === 1) await released;
    return answer;
  };
  await second.run(() => void (window.late = guest()));
  await until(() => asked === 1);
  const made = sub(await page.run(() => guest()));
  release();
  assert.equal(sub(await second.run(() => late)), made);
  assert.notEqual(made, old);
  assert.equal(await stored(), made);
  assert.equal((await shop.count()).profiles, count.profiles + 1);
  shop.rule = null;

  // In one tab.
  await kill();
  const anew = sub(await page.run(() => guest()));
  assert.notEqual(anew, made);
  assert.equal(await stored(), anew);
  assert.equal((await shop.count()).profiles, count.profiles + 2);
}
