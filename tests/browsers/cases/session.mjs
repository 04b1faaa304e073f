// How a page and Guestpass agree on a guest, by nothing but fetch.
import assert from 'node:assert/strict';
import { ensure } from './pages.mjs';

export async function a_page_keeps_its_guest_in_cookies({ shop, jar }) {
  const before = await shop.count();
  const page = await jar.open(shop.url('/'));
  assert.deepEqual(await page.run(ensure, 'shop-web'), { status: 202, again: true });
  const made = await page.run(ensure, 'shop-web');
  assert.equal(made.status, 200);
  assert.equal(made.new, true);
  await page.reload();
  const known = await page.run(ensure, 'shop-web');
  assert.equal(known.status, 200);
  assert.equal(known.new, false);
  assert.equal(known.sub, made.sub);
  assert.equal(await page.run(() => document.cookie), '');
  const kept = await page.cookies('www.shop.localhost');
  assert.deepEqual(kept.map(({ name }) => name), ['__Host-guest', '__Host-guest-r']);
  for (const cookie of kept) {
    const { path, httpOnly, secure, sameSite } = cookie;
    const expected = { path: '/', httpOnly: true, secure: true, sameSite: 'lax' };
    assert.deepEqual({ path, httpOnly, secure, sameSite }, expected);
  }
  assert.deepEqual(await shop.count(), { profiles: before.profiles + 1, grants: before.grants + 1 });
}
