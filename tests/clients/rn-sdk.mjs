// Usage: node rn-sdk.mjs CLIENT_ID DOMAIN
//
// A guest's life in a shop's app: the React Native SDK's own modules, untouched, against
// https://DOMAIN. They are loaded by file, because the package's main module needs React Native;
// what these two need of the platform, Node has as well.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [clientId, domain] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const sdk = './node_modules/mapp-fashion-react-native-sdk/dist';
const { authenticate, refreshToken } = require(`${sdk}/services/auth.js`);
const { accessTokenHasExpired, getNetworkUserId } = require(`${sdk}/utils/jwt.js`);
// The SDK's own axios: its interceptors let this test see and spoil messages on their way.
const axios = createRequire(require.resolve(`${sdk}/services/auth.js`))('axios');

const DAY = 86_400;
const REFUSED = {
  message: 'There was an error authenticating with Dressipi: Request failed with status code 400',
};

// First start of the app: nothing is stored, so the SDK authorizes and exchanges the code.
const sent = [];
const watch = axios.interceptors.request.use((config) => {
  sent.push(config);
  return config;
});
const first = await authenticate(clientId, domain);
axios.interceptors.request.eject(watch);
const members = ['access_token', 'expires_in', 'refresh_token', 'token_type'];
assert.deepEqual(Object.keys(first).sort(), members);
assert.equal(first.token_type, 'Bearer');
assert.equal(first.expires_in, DAY);
assert.ok(JSON.stringify(first).length <= 1536, 'too long for the storage of some devices');

// It reads the access token with its own decoder: a guest with an id, for one day.
const guest = getNetworkUserId(first);
assert.match(guest, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
const { sub, subn, iss, iat, exp } = claims(first);
assert.match(sub, /^[1-9][0-9]*$/);
assert.equal(subn, guest);
assert.equal(typeof iss, 'string');
assert.equal(exp - iat, DAY);
assert.equal(accessTokenHasExpired(first), false);
assert.equal(atTime(exp - 1, () => accessTokenHasExpired(first)), false);
assert.equal(atTime(exp + 1, () => accessTokenHasExpired(first)), true);

// On later days it refreshes, and each answer replaces the stored one.
const second = await refreshToken(first, clientId, domain);
const third = await refreshToken(second, clientId, domain);
for (const stored of [second, third]) {
  assert.equal(getNetworkUserId(stored), guest);
  assert.equal(claims(stored).sub, sub);
  assert.equal(accessTokenHasExpired(stored), false);
}
assert.equal(new Set([first, second, third].map((stored) => stored.refresh_token)).size, 3);

// Two concurrent refreshes both succeed, and whichever answer is stored last goes on working.
const renders = [refreshToken(third, clientId, domain), refreshToken(third, clientId, domain)];
const [left, right] = await Promise.all(renders);
assert.equal(left.refresh_token, right.refresh_token);
const fifth = await refreshToken(left, clientId, domain);
assert.equal(getNetworkUserId(fifth), guest);

// An unknown token is refused without consequences: the stored one still works.
await assert.rejects(refreshToken(first, clientId, domain), REFUSED);
await assert.rejects(refreshToken({ ...first, refresh_token: 'dead' }, clientId, domain), REFUSED);
const sixth = await refreshToken(fifth, clientId, domain);
assert.equal(claims(sixth).sub, sub);

// Authorizing again makes another guest.
const other = await authenticate(clientId, domain);
assert.notEqual(getNetworkUserId(other), guest);
assert.notEqual(claims(other).sub, sub);

// The SDK compares the state; the server compares the verifier.
await spoiled('response', (answer) => { answer.data.state = 'forged'; }, /State mismatch/);
const forged = `code_verifier=${'~'.repeat(43)}`;
await spoiled('request', (config) => {
  config.url = config.url.replace(/code_verifier=.*/, forged);
}, REFUSED);

// A spent code that is sent again with everything right ends the grant it gave: the guest's next
// refresh is refused, which the SDK reports as it does any trouble.
const [, exchange] = sent;
const replayed = await axios.post(exchange.url, undefined, { validateStatus: null });
assert.equal(replayed.status, 400);
assert.equal(replayed.data.error, 'invalid_grant');
await assert.rejects(refreshToken(sixth, clientId, domain), REFUSED);

// Plain base64, as the SDK decodes it.
function claims({ access_token }) {
  return JSON.parse(atob(access_token.split('.')[1]));
}

function atTime(seconds, read) {
  const { now } = Date;
  Date.now = () => seconds * 1000;
  const value = read();
  Date.now = now;
  return value;
}

async function spoiled(messages, spoil, expected) {
  const hook = axios.interceptors[messages].use((message) => {
    spoil(message);
    return message;
  });
  await assert.rejects(authenticate(clientId, domain), expected);
  axios.interceptors[messages].eject(hook);
}
