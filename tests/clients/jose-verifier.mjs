// A resource server's part in Node, as docs/verifying.md shows it.
import { createRemoteJWKSet, jwtVerify } from 'jose';

// Once. The keys are found through the server's metadata, and followed.
export async function keysOf(issuer) {
  const address = new URL(issuer); // its path, if it has one, goes to the end (RFC 8414 §3.1)
  address.pathname = `/.well-known/oauth-authorization-server${address.pathname}`.replace(/\/$/, '');
  const answer = await fetch(address);
  const metadata = await answer.json();
  if (metadata.issuer !== issuer) throw new Error('metadata of another issuer');
  return createRemoteJWKSet(new URL(metadata.jwks_uri));
}

// For each request.
export async function guestOf(token, keys, { issuer, audience = issuer, algorithm = 'ES256', now }) {
  const { payload } = await jwtVerify(token, keys, {
    issuer,
    audience, // of your own service, if it has one: the issuer restricts nothing
    typ: 'at+jwt',
    algorithms: [algorithm], // the one that you have chosen, and no other
    requiredClaims: ['sub', 'exp'],
    clockTolerance: 5,
    currentDate: now, // this machine's clock, unless a test says otherwise
  });
  return payload; // sub is the guest
}
