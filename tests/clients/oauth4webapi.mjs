// Usage: node oauth4webapi.mjs URL CLIENT_ID [API_KEY]
//
// A guest's life through a library that knows nothing of this server: a public client, or with
// API_KEY a confidential one by HTTP Basic. The library makes the token requests and judges every
// answer; authorize is asked by hand, since its JSON answer stands where a redirect is expected.
import assert from 'node:assert/strict';
import * as oauth from 'oauth4webapi';

const [url, client_id, apiKey] = process.argv.slice(2);
const REDIRECT_URI = 'urn:ietf:wg:oauth:2.0:oob:auto';
const as = {
  issuer: url,
  authorization_endpoint: `${url}/oauth/authorize`,
  token_endpoint: `${url}/oauth/token`,
};
const client = { client_id };
const secret = apiKey ? oauth.ClientSecretBasic(apiKey) : oauth.None();
const loopback = { [oauth.allowInsecureRequests]: true };

// A wrong verifier is refused, and doesn't spend the code.
const verifier = oauth.generateRandomCodeVerifier();
const answer = await authorize(verifier);
await refused(() => exchange(answer, oauth.generateRandomCodeVerifier()));
const first = await exchange(answer, verifier);
assert.equal(first.token_type, 'bearer');
assert.equal(first.expires_in, 86_400);
const { sub, subn, client_id: issuedTo } = claims(first);
assert.equal(issuedTo, client_id);

// On later days, each answer replaces the one before.
const second = await refresh(first.refresh_token);
const third = await refresh(second.refresh_token);
assert.equal(new Set([first, second, third].map((stored) => stored.refresh_token)).size, 3);
assert.equal(new Set([first, second, third].map((stored) => stored.access_token)).size, 3);

// Two concurrent refreshes both succeed, with the same successor. The guest has stayed the same.
const tabs = [refresh(third.refresh_token), refresh(third.refresh_token)];
const [left, right] = await Promise.all(tabs);
assert.equal(left.refresh_token, right.refresh_token);
for (const stored of [second, third, left, right]) {
  assert.equal(claims(stored).sub, sub);
  assert.equal(claims(stored).subn, subn);
}

// A token that was replaced is refused once its successor has been used, as is one that never was
// a token; the current one still works.
await refused(() => refresh(first.refresh_token));
await refused(() => refresh('dead'));
const fifth = await refresh(left.refresh_token);

// A wrong password is answered with 401 and a challenge that the library reads; it spends nothing.
const wrong = refresh(fifth.refresh_token, oauth.ClientSecretBasic('wrong'));
const challenge = await wrong.catch((error) => error);
assert.ok(challenge instanceof oauth.WWWAuthenticateChallengeError, challenge);
assert.equal(challenge.status, 401);
assert.equal(challenge.cause[0].scheme, 'basic');
const sixth = await refresh(fifth.refresh_token);

// Authorizing again makes another guest.
const otherVerifier = oauth.generateRandomCodeVerifier();
const other = await exchange(await authorize(otherVerifier), otherVerifier);
assert.notEqual(claims(other).sub, sub);
assert.notEqual(claims(other).subn, subn);

// A code that is sent again with everything right is refused, and ends the grant it gave. The
// other guest is not touched.
await refused(() => exchange(answer, verifier));
await refused(() => refresh(sixth.refresh_token));
await refresh(other.refresh_token);

async function authorize(verifier) {
  const state = oauth.generateRandomState();
  const request = new URL(as.authorization_endpoint);
  request.search = new URLSearchParams({
    redirect_uri: REDIRECT_URI,
    response_type: 'code',
    client_id,
    state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  });
  const response = await fetch(request, { headers: apiKey ? { 'x-api-key': apiKey } : {} });
  assert.equal(response.status, 200);
  const answer = new URLSearchParams(await response.json());
  const otherState = oauth.generateRandomState();
  assert.throws(() => oauth.validateAuthResponse(as, client, answer, otherState), /"state"/);
  return oauth.validateAuthResponse(as, client, answer, state);
}

async function exchange(answer, verifier) {
  const caller = [as, client, secret];
  const grant = [answer, REDIRECT_URI, verifier];
  const response = await oauth.authorizationCodeGrantRequest(...caller, ...grant, loopback);
  return oauth.processAuthorizationCodeResponse(as, client, response);
}

async function refresh(token, auth = secret) {
  const response = await oauth.refreshTokenGrantRequest(as, client, auth, token, loopback);
  return oauth.processRefreshTokenResponse(as, client, response);
}

async function refused(request) {
  const expected = { name: 'ResponseBodyError', status: 400, error: 'invalid_grant' };
  await assert.rejects(request, expected);
}

function claims({ access_token }) {
  return JSON.parse(Buffer.from(access_token.split('.')[1], 'base64url'));
}
