// Usage: node jose.mjs URL ALGORITHM [EXPORTED]
//
// Access tokens of a server that signs with ALGORITHM, verified by jose as docs/verifying.md shows it, and
// by oauth4webapi as RFC 9068 says: with the published keys, or for HS256 with those of the file
// EXPORTED. The server has the clients shop-app, shop-api, whose tokens are for another audience
// too, and shop-brief, whose tokens are good for a second; nobody waits for that to pass. URL is its
// issuer, and may have a path; what is published lies at the root of its host.
import assert from 'node:assert/strict';
import { createHmac, createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { calculateJwkThumbprint, errors, importJWK, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';
import { guestOf, keysOf } from './jose-verifier.mjs';

const [issuer, algorithm, exported] = process.argv.slice(2);
const API = 'https://api.shop.example';
const REDIRECT_URI = 'urn:ietf:wg:oauth:2.0:oob:auto';
const loopback = { [oauth.allowInsecureRequests]: true };

const discovery = { algorithm: 'oauth2', ...loopback };
const metadata = await oauth.discoveryRequest(new URL(issuer), discovery);
const as = await oauth.processDiscoveryResponse(new URL(issuer), metadata);
assert.equal(as.jwks_uri, `${new URL(issuer).origin}/oauth/jwks`);

// The published set has the key in use and the next one, named by their thumbprints, and no secret.
const published = await (await fetch(as.jwks_uri)).json();
const jwks = exported ? JSON.parse(readFileSync(exported)) : published;
assert.equal(published.keys.length, exported ? 0 : 2);
assert.equal(jwks.keys.length, 2);
for (const jwk of published.keys) {
  assert.equal(jwk.kid, await calculateJwkThumbprint(jwk));
  assert.equal(jwk.alg, algorithm);
  assert.equal(jwk.use, 'sig');
  for (const secret of ['d', 'k', 'p', 'q']) assert.ok(!(secret in jwk), `${secret} is published`);
}
const keys = exported ? exportedKey : await keysOf(issuer);

// A token names the guest, its audience and its expiry.
const token = await tokenOf('shop-app');
const { sub, aud, iat, exp } = await verified(token);
assert.match(sub, /^[1-9][0-9]*$/);
assert.equal(aud, issuer);
assert.equal(exp - iat, 86_400);
assert.deepEqual(header(token), { alg: algorithm, typ: 'at+jwt', kid: header(token).kid });
await refused(token, 'ERR_JWT_CLAIM_VALIDATION_FAILED', { audience: API });
await refused(token, 'ERR_JWT_CLAIM_VALIDATION_FAILED', { issuer: `${issuer}/`, audience: issuer });
const forBoth = await tokenOf('shop-api');
for (const audience of [API, issuer]) {
  assert.deepEqual((await verified(forBoth, { audience })).aud, [API, issuer]);
}
await refused(forBoth, 'ERR_JWT_CLAIM_VALIDATION_FAILED', { audience: `${API}/` });

// It expires when the client was told; with a tolerance of 5 s, 5 s later.
const brief = await tokenOf('shop-brief');
const end = claims(brief).exp;
assert.equal(end - claims(brief).iat, 1);
await verified(brief, { now: new Date((end + 4) * 1000) });
await refused(brief, 'ERR_JWT_EXPIRED', { now: new Date((end + 5) * 1000) });
await refused(token, 'ERR_JWT_EXPIRED', { now: new Date((exp + 5) * 1000) });

// A token with a flipped bit is refused.
const segments = token.split('.').map((segment) => Buffer.from(segment, 'base64url'));
for (const [at, segment] of segments.entries()) {
  for (let byte = 0; byte < segment.length; byte += 1) {
    const flipped = Buffer.from(segment);
    flipped[byte] ^= 1 << (byte % 8);
    const forged = segments.with(at, flipped).map((bytes) => bytes.toString('base64url')).join('.');
    await refused(forged, at === 0 ? undefined : 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED');
  }
}

// The algorithm is the verifier's choice and not the token's.
const another = algorithm === 'ES256' ? 'RS256' : 'ES256';
await refused(token, 'ERR_JOSE_ALG_NOT_ALLOWED', { algorithm: another });
const { kid } = header(token);
const unsigned = signedPart({ alg: 'none', typ: 'at+jwt', kid });
await refused(`${unsigned}.`, 'ERR_JOSE_ALG_NOT_ALLOWED');
const jwk = jwks.keys.find((key) => key.kid === kid);
const symmetric = signedPart({ alg: 'HS256', typ: 'at+jwt', kid });
for (const secret of knownToAll()) {
  const forged = `${symmetric}.${createHmac('sha256', secret).update(symmetric).digest('base64url')}`;
  await refused(forged, exported ? 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' : 'ERR_JOSE_ALG_NOT_ALLOWED');
  // Nor would jose have been deceived by a server that names no algorithm.
  await assert.rejects(jwtVerify(forged, keys, { issuer, audience: issuer }), errors.JOSEError);
}
if (exported) {
  // The type counts as well, even if the right key has signed.
  const secret = Buffer.from(jwk.k, 'base64url');
  for (const typ of ['at+jwt', 'JWT', undefined]) {
    const signed = signedPart({ alg: 'HS256', typ, kid });
    const forged = `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
    if (typ === 'at+jwt') await verified(forged);
    else await refused(forged, 'ERR_JWT_CLAIM_VALIDATION_FAILED');
  }
} else {
  // oauth4webapi checks all that RFC 9068 requires of a resource server, and finds the keys itself.
  assert.equal((await accessToken(token, issuer)).sub, sub);
  assert.equal((await accessToken(forBoth, API)).client_id, 'shop-api');
  await assert.rejects(accessToken(token, API), oauth.OperationProcessingError);
  await assert.rejects(accessToken(`${unsigned}.`, issuer));
}

// Finds a secret by its id, since jose has no key set for secrets.
async function exportedKey({ kid }) {
  const jwk = jwks.keys.find((key) => key.kid === kid);
  if (!jwk) throw new errors.JWKSNoMatchingKey();
  return importJWK(jwk);
}

async function verified(token, options) {
  return guestOf(token, keys, { issuer, algorithm, ...options });
}

async function refused(token, code, options) {
  await assert.rejects(verified(token, options), (error) => {
    assert.ok(error instanceof errors.JOSEError, error);
    if (code) assert.equal(error.code, code, error);
    return true;
  });
}

async function accessToken(token, audience) {
  const request = new Request(API, { headers: { authorization: `Bearer ${token}` } });
  return oauth.validateJwtAccessToken(as, request, audience, loopback);
}

// Returns what a forger could use as a secret: the public key, in each form that is handed around.
// With HS256 there is none, so an empty secret and the key's name stand for it.
function knownToAll() {
  if (exported) return ['', kid];
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  const pem = key.export({ type: 'spki', format: 'pem' });
  const der = key.export({ type: 'spki', format: 'der' });
  return [pem, pem.trim(), der, JSON.stringify(jwk), Buffer.from(jwk.x ?? jwk.n, 'base64url')];
}

// Returns the signing input of the good token's claims with another header.
function signedPart(header) {
  return `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${token.split('.')[1]}`;
}

async function tokenOf(client_id) {
  const client = { client_id };
  const verifier = oauth.generateRandomCodeVerifier();
  const request = new URL(as.authorization_endpoint);
  const state = oauth.generateRandomState();
  request.search = new URLSearchParams({
    redirect_uri: REDIRECT_URI,
    response_type: 'code',
    client_id,
    state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  });
  const answer = new URLSearchParams(await (await fetch(request)).json());
  const code = oauth.validateAuthResponse(as, client, answer, state);
  const caller = [as, client, oauth.None()];
  const grant = [code, REDIRECT_URI, verifier];
  const response = await oauth.authorizationCodeGrantRequest(...caller, ...grant, loopback);
  return (await oauth.processAuthorizationCodeResponse(as, client, response)).access_token;
}

function header(token) {
  return JSON.parse(Buffer.from(token.split('.')[0], 'base64url'));
}

function claims(token) {
  return JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
}
