// What Guestpass serves for pages, and tickets that a page is given.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { ensure, sendsSession } from './pages.mjs';

const BUILD = new URL('../../../sdk/js/guestpass.min.js', import.meta.url);

export async function c348_no_ticket_is_read_from_an_address({ shop, jar }) {
  const page = await jar.open(shop.url('/helper'));
  await page.run(() => begin());
  await page.run(() => who());
  const known = await page.run(() => guest.withdraw());
  assert.equal(known, undefined);

  const app = await shop.appGuest();
  const ticket = await shop.ticket('shop-web', app);
  for (const start of ['/helper', '/started']) {
    for (const mark of ['?', '#']) {
      shop.requests = [];
      await page.goto(shop.url('/'));
      await page.goto(shop.url(`${start}${mark}ticket=${ticket}`));
      if (start === '/helper') await page.run(() => begin());
      assert.ok(await page.run(() => guest.who()));
      assert.ok(shop.requests.some(sendsSession('POST')));
      for (const { url, body, headers } of shop.requests.filter(sendsSession('POST'))) {
        assert.ok(!`${url} ${body}`.includes('ticket'));
        assert.ok(!(headers.referer ?? '').includes('ticket'), headers.referer);
      }
      await page.run(() => guest.withdraw());
    }
  }

  // An element of that name is no ticket.
  shop.requests = [];
  const element = new URLSearchParams({ before: '<p id="guestpassTicket">ticket</p>' });
  await page.goto(shop.url(`/started?${element}`));
  const own = await page.run(() => guest.who());
  assert.ok(own);
  assert.ok(!shop.requests.some(({ body }) => body.includes('ticket')));

  // The ticket was good all the time; once it is spent, it changes nothing.
  await page.run(() => guest.withdraw());
  await page.goto(shop.url('/helper'));
  await page.run(() => begin());
  const adopted = await page.run((ticket) => guest.adopt(ticket), ticket);
  assert.equal(adopted.sub, subOf(app));
  assert.equal(await page.run(() => guest.state), 'known');
  await page.run(() => guest.withdraw());
  const state = await page.run(() => guest.state);
  const spent = await page.run((ticket) => guest.adopt(ticket).catch(({ code }) => ({ code })), ticket);
  assert.deepEqual(spent, { code: 'invalid_grant' });
  assert.equal(await page.run(() => guest.state), state);
}

export async function c360_the_served_helper({ shop, browser, jar }) {
  for (const base of ['', '/api']) {
    const answer = await shop.send('GET', `${base}/oauth/guestpass.js`, {});
    assert.equal(answer.status, 200);
    assert.deepEqual(Buffer.from(await answer.arrayBuffer()), readFileSync(BUILD));
    assert.match(answer.headers.get('content-type'), /^text\/javascript\b/);
    assert.equal(answer.headers.get('cache-control'), 'public, max-age=600');
    assert.equal(answer.headers.get('access-control-allow-origin'), '*');
    assert.equal(answer.headers.get('access-control-allow-credentials'), null);
    const etag = answer.headers.get('etag');
    assert.equal((await shop.send('GET', `${base}/oauth/guestpass.js`, { 'if-none-match': etag })).status, 304);
  }

  // As a module of another origin, it loads and does nothing by itself.
  const foreign = await jar.open(shop.url('/', 'other.localhost'));
  const loaded = await foreign.run((url) => new Promise((resolve) => {
    window.addEventListener('error', () => resolve('failed'));
    const script = Object.assign(document.createElement('script'), { type: 'module' });
    script.textContent = `import { createGuest } from '${url}'; window.imported(typeof createGuest);`;
    window.imported = resolve;
    document.body.append(script);
  }), shop.url('/oauth/guestpass.js'));
  assert.equal(loaded, 'function');
  assert.ok(!shop.requests.some(sendsSession('POST')));

  // With a ticket in the page it starts as the ticket's guest, below each base path.
  for (const base of ['', '/api']) {
    const app = await shop.appGuest();
    const ticket = await shop.ticket('shop-web', app);
    const visitor = await browser.jar();
    try {
      const before = `<script>window.guestpassTicket = '${ticket}';</script>`;
      const page = await visitor.open(shop.url(`/started?${new URLSearchParams({ before, base })}`));
      assert.equal((await page.run(() => guest.who())).sub, subOf(app));
      assert.equal((await page.run(ensure, 'shop-web')).sub, subOf(app));
    } finally {
      await visitor.close();
    }
  }
}

function subOf({ access_token }) {
  return JSON.parse(Buffer.from(access_token.split('.')[1], 'base64url')).sub;
}
