// Next.js 16: recognises the guest of a page that Guestpass keeps in cookies. Copy this file beside app/ (or into src/).
// Needs jose: npm install jose
//
// Pages and routes find the guest's sub by `(await headers()).get('x-guestpass-sub')`, as behind a gateway. It is null for
// nobody, and never comes from the client. No cookie is set here: the page renews its tokens.

import { createRemoteJWKSet, errors, jwtVerify } from 'jose';
import { NextResponse, type NextRequest } from 'next/server';

const { env } = process;
const ISSUER = env.GUESTPASS_ISSUER ?? 'https://www.shop.example';
const AUDIENCE = env.GUESTPASS_AUDIENCE ?? ISSUER; // of your own service, if it has one: the issuer restricts nothing
const CLIENT = env.GUESTPASS_CLIENT ?? 'shop-web';
const COOKIE = env.GUESTPASS_COOKIE ?? '__Host-guest'; // on loopback over http: guest
const KEYS = env.GUESTPASS_KEYS ?? `${ISSUER}/oauth/jwks`;

// Paths that answer 401 to nobody. All others are soft.
const STRICT = /^\/account(\/|$)/i;

// Everything but the files of the build. A page that is left out here would believe the client's own x-guestpass-sub.
export const config = { matcher: '/((?!_next/static/|_next/image).*)' };

const keys = createRemoteJWKSet(new URL(KEYS), { timeoutDuration: 2_000 });

export async function proxy(request: NextRequest) {
  const headers = new Headers(request.headers);
  for (const name of [...headers.keys()]) {
    if (/^x[^a-z0-9]guestpass[^a-z0-9]/.test(name)) headers.delete(name);
  }
  const isStrict = STRICT.test(request.nextUrl.pathname);
  let sub: string | null = null;
  try {
    sub = await guestOf(headers.get('cookie') ?? '');
  } catch (error) {
    console.warn('Guestpass: no keys.', error);
    if (isStrict) return new NextResponse('Unavailable', { status: 503, headers: { 'Retry-After': '1' } });
  }
  if (!sub && isStrict) {
    return new NextResponse('Unauthorized', { status: 401, headers: { 'WWW-Authenticate': 'Bearer' } });
  }
  if (sub) headers.set('x-guestpass-sub', sub);
  const response = NextResponse.next({ request: { headers } });
  if (sub) response.headers.set('Cache-Control', 'private');
  return response;
}

// Returns the guest's sub, or null for nobody. Throws if there are no keys now.
async function guestOf(cookies: string): Promise<string | null> {
  const token = tokenIn(cookies);
  if (!token) return null;
  try {
    const { payload } = await jwtVerify(token, keys, {
      issuer: ISSUER,
      audience: AUDIENCE,
      typ: 'at+jwt',
      algorithms: ['ES256'], // the one that you have chosen, and no other
      requiredClaims: ['sub', 'exp'],
      clockTolerance: 5,
    });
    return payload.client_id === CLIENT ? (payload.sub ?? null) : null;
  } catch (error) {
    const noKeys = ['ERR_JWKS_TIMEOUT', 'ERR_JWKS_INVALID', 'ERR_JOSE_GENERIC'];
    if (error instanceof errors.JOSEError && !noKeys.includes(error.code)) return null;
    throw error;
  }
}

// Reads the header as it came, since a parser chooses between two values of one name. One of them may be planted (RFC 6265
// §8.6).
function tokenIn(cookies: string): string | null {
  const pairs = cookies.split(';').map((pair) => pair.replace(/^[ \t]+|[ \t]+$/g, ''));
  const values = new Set(pairs.filter((pair) => pair.startsWith(`${COOKIE}=`)));
  return values.size === 1 ? [...values][0].slice(COOKIE.length + 1) : null;
}
