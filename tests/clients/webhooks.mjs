// Usage: webhooks.mjs GUESTPASS
//
// The receiver of docs/events.md, written with a published library of Standard Webhooks, hears from a server of its own what
// becomes of guests: each message is verified, with either of two secrets and after a rotation, and what was changed is refused.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { Webhook } from 'standardwebhooks';

import { receiver } from './webhook-receiver.mjs';

const PATIENCE = 60_000;
const [guestpass] = process.argv.slice(2);
const directory = mkdtempSync(join(tmpdir(), 'webhooks-'));
const secretFile = join(directory, 'webhook.secret');
const data = ['--data-dir', join(directory, 'data')];
const execute = promisify(execFile);
const run = async (...args) => (await execute(guestpass, args)).stdout;
const newSecret = async () => (await run('events', 'secret')).trim();

// What was received, verified by each secret that the receiver has had.
const taken = [];
let failing = 0;
const take = (event, id) => {
  if (failing > 0) {
    failing -= 1;
    throw new Error('not now');
  }
  taken.push({ event, id });
};

async function listening(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
}

async function until(what, isSo) {
  const end = Date.now() + PATIENCE;
  while (!isSo()) {
    assert.ok(Date.now() < end, `${what} within a minute; received ${JSON.stringify(taken)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const [first, second] = [await newSecret(), await newSecret()];
assert.match(first, /^whsec_[A-Za-z0-9+/]{43}=$/);
writeFileSync(secretFile, `${first}\n`);
// The receiver's first deliveries also go to one that has only the second secret, once both sign.
const ofFirst = receiver(first, take);
const ofSecond = receiver(second, take);
const messages = [];
const keep = (server) => {
  server.prependListener('request', (message) => {
    const chunks = [];
    message.on('data', (chunk) => chunks.push(chunk));
    message.on('end', () => messages.push({ headers: message.headers, body: Buffer.concat(chunks).toString() }));
  });
  return server;
};
const port = await listening(keep(ofFirst));
process.env.GUESTPASS_EVENTS__URL = `http://127.0.0.1:${port}/events`;
process.env.GUESTPASS_EVENTS__SECRET_FILE = secretFile;

await run(...data, 'client', 'add', 'shop-app');
const added = await run(...data, '--json', 'client', 'add', 'shop-backend', '--confidential');
const key = JSON.parse(added).api_key;
await run(...data, 'client', 'set', 'shop-backend', '--may', 'link');
const server = spawn(guestpass, [...data, 'serve', '--listen', '127.0.0.1:0'], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
try {
  const [line] = await once(createInterface({ input: server.stdout }), 'line');
  const url = line.replace('listening on ', '');
  const post = async (path, parameters, headers = {}) => {
    const answer = await fetch(`${url}/oauth/${path}`, {
      method: 'POST',
      body: new URLSearchParams(parameters),
      headers,
    });
    assert.ok(answer.ok, `${path}: ${answer.status} ${answer.ok || (await answer.text())}`);
    return answer;
  };
  const guest = async () => {
    const verifier = randomBytes(32).toString('base64url');
    const challenge = createHash('sha256').update(verifier).digest('base64url');
    const client = { client_id: 'shop-app', redirect_uri: 'urn:ietf:wg:oauth:2.0:oob:auto' };
    const asked = {
      ...client,
      response_type: 'code',
      state: verifier.slice(0, 16),
      code_challenge: challenge,
      code_challenge_method: 'S256',
    };
    const code = await (await fetch(`${url}/oauth/authorize?${new URLSearchParams(asked)}`)).json();
    const exchange = { ...client, grant_type: 'authorization_code', code_verifier: verifier };
    return (await post('token', { ...exchange, code: code.code })).json();
  };
  const claims = (tokens) => JSON.parse(Buffer.from(tokens.access_token.split('.')[1], 'base64url'));
  const byBackEnd = (tokens) => [
    { client_id: 'shop-backend', token: tokens.access_token, customer: 'c-4711' },
    { 'x-api-key': key },
  ];

  const [linked, erased] = [await guest(), await guest()];
  failing = 1;
  await post('link', ...byBackEnd(linked));
  // A failure is made up for a few seconds later, under the same id.
  await until('the link is told', () => taken.length === 1);
  assert.equal(messages.length, 2);
  assert.equal(messages[0].headers['webhook-id'], messages[1].headers['webhook-id']);
  const { sub, subn, sid } = claims(linked);
  const told = taken[0].event;
  assert.equal(told.type, 'guest.linked');
  assert.deepEqual(told.data, { sub, subn, customer: 'c-4711', client_id: 'shop-backend' });
  assert.ok(Math.abs(Date.parse(told.timestamp) - Date.now()) < PATIENCE);

  await post('unlink', ...byBackEnd(linked));
  await until('its end is told', () => taken.some(({ event }) => event.type === 'guest.unlinked'));
  await post('revoke', { client_id: 'shop-app', token: linked.refresh_token });
  await until('the end of the grant is told', () => taken.some(({ event }) => event.type === 'grant.ended'));
  const ended = taken.find(({ event }) => event.type === 'grant.ended').event.data;
  assert.deepEqual(ended, { sub, sid, client_id: 'shop-app', reason: 'revoked_by_client' });

  // Both secrets sign while one takes the other's place; SIGHUP has the file read again.
  writeFileSync(secretFile, `${second}\n${first}\n`);
  server.kill('SIGHUP');
  const signatures = () => messages.at(-1).headers['webhook-signature'].split(' ').length;
  const end = Date.now() + PATIENCE;
  for (let tries = 0; signatures() !== 2; tries += 1) {
    assert.ok(Date.now() < end, 'both secrets sign within a minute');
    const count = taken.length;
    await post('link', ...byBackEnd(erased));
    await post('unlink', ...byBackEnd(erased));
    await until('the link is told again', () => taken.length >= count + 2);
  }
  const { headers, body } = messages.at(-1);
  for (const secret of [first, second]) {
    assert.ok(new Webhook(secret).verify(body, headers));
    for (const at of [0, Math.floor(body.length / 2), body.length - 2]) {
      const other = String.fromCharCode(body.charCodeAt(at) ^ 1);
      const changed = body.slice(0, at) + other + body.slice(at + 1);
      assert.throws(() => new Webhook(secret).verify(changed, headers), /signature/i);
    }
  }
  const stranger = await newSecret();
  assert.throws(() => new Webhook(stranger).verify(body, headers), /signature/i);

  const erasure = await fetch(`${url}/oauth/profile`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${erased.access_token}` },
  });
  assert.equal(erasure.status, 204);
  await until('the erasure is told', () => taken.some(({ event }) => event.type === 'guest.erased'));
  const gone = taken.find(({ event }) => event.type === 'guest.erased').event.data;
  assert.deepEqual(gone, { sub: claims(erased).sub, subn: claims(erased).subn, reason: 'guest' });
  // No id has come twice, but for the one that failed.
  assert.equal(new Set(taken.map(({ id }) => id)).size, taken.length);

  // `events test` says what a receiver does, and one that doesn't know the secret doesn't take it.
  const count = taken.length;
  const tested = JSON.parse(await run(...data, '--json', 'events', 'test'));
  assert.equal(tested.status, 204);
  assert.equal(taken.length, count + 1);
  assert.deepEqual(taken.at(-1).id, tested.id);
  assert.equal(taken.at(-1).event.type, 'guestpass.test');
  process.env.GUESTPASS_EVENTS__URL = `http://127.0.0.1:${await listening(ofSecond)}/events`;
  assert.equal(JSON.parse(await run(...data, '--json', 'events', 'test')).status, 204);
  writeFileSync(secretFile, `${first}\n`);
  await assert.rejects(run(...data, 'events', 'test'), /401/);
} finally {
  server.kill('SIGTERM');
  ofFirst.close();
  ofSecond.close();
  ofFirst.closeAllConnections();
  ofSecond.closeAllConnections();
  await once(server, 'exit');
  rmSync(directory, { recursive: true });
}
