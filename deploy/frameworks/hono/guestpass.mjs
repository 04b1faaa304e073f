// Hono: recognises the guest of a page that Guestpass keeps in cookies. Needs nothing but Hono; not for HS256.
//
//   app.use(guestpass());                        // soft: without a good token, a request is nobody's
//   app.use('/account/*', guestpass('strict'));  // strict: without one, it gets 401
//
// What follows finds the guest's sub in the request header x-guestpass-sub, as behind a gateway. The header isn't there for
// nobody, and never comes from the client. No cookie is set here: the page renews its tokens.

import { HTTPException } from 'hono/http-exception';
import { jwk } from 'hono/jwk';

const env = globalThis.process?.env ?? {};
const ISSUER = env.GUESTPASS_ISSUER ?? 'https://www.shop.example';
const AUDIENCE = env.GUESTPASS_AUDIENCE ?? ISSUER; // of your own service, if it has one: the issuer restricts nothing
const CLIENT = env.GUESTPASS_CLIENT ?? 'shop-web';
const COOKIE = env.GUESTPASS_COOKIE ?? '__Host-guest'; // on loopback over http: guest
const KEYS = env.GUESTPASS_KEYS ?? `${ISSUER}/oauth/jwks`;

const verify = jwk({
  keys: cachedKeys,
  alg: ['ES256'], // the one that you have chosen, and no other
  cookie: COOKIE,
  allow_anon: true,
  headerName: 'x-guestpass-token', // one that is removed below: Authorization may be for something else
  // A clock that is a second behind would make nobody of a guest whose token is new.
  verification: { iss: ISSUER, aud: AUDIENCE, typ: 'at+jwt', iat: false },
});

export function guestpass(mode = 'soft') {
  return async (context, next) => {
    const headers = new Headers(context.req.raw.headers);
    for (const name of [...headers.keys()]) {
      if (/^x[^a-z0-9]guestpass[^a-z0-9]/.test(name)) headers.delete(name);
    }
    context.req.raw = new Request(context.req.raw, { headers });
    let sub = null;
    try {
      sub = await guestOf(context);
    } catch (error) {
      console.warn('Guestpass: no keys.', error);
      if (mode === 'strict') return context.text('Unavailable', 503, { 'Retry-After': '1' });
    }
    if (!sub) {
      if (mode === 'strict') return context.text('Unauthorized', 401, { 'WWW-Authenticate': 'Bearer' });
      return next();
    }
    headers.set('x-guestpass-sub', sub);
    context.req.raw = new Request(context.req.raw, { headers });
    await next();
    // Nothing that the shop says lets a shared cache keep what is for one guest.
    const mayBeKept = !/private|no-store/i.test(context.res.headers.get('Cache-Control'));
    if (mayBeKept) context.header('Cache-Control', 'private');
  };
}

// Returns the guest's sub, or null for nobody. Throws if there are no keys now.
async function guestOf(context) {
  if (!hasOneToken(context.req.header('Cookie'))) return null;
  await cachedKeys(); // hono/jwk takes most errors of a fetch for those of the token
  const ofTheShop = context.get('jwtPayload');
  context.set('jwtPayload', undefined);
  try {
    await verify(context, async () => {});
    const { sub, exp, client_id } = context.get('jwtPayload') ?? {};
    return sub && exp && client_id === CLIENT ? sub : null;
  } catch (error) {
    if (error instanceof HTTPException) return null;
    throw error;
  } finally {
    context.set('jwtPayload', ofTheShop);
  }
}

// Reads the header as it came, since a parser chooses between two values of one name. One of them may be planted (RFC 6265
// §8.6). Hono's also takes off quotes, and decodes: what is no token as it stands is left out.
function hasOneToken(cookies = '') {
  const pairs = cookies.split(';').map((pair) => pair.replace(/^[ \t]+|[ \t]+$/g, ''));
  const values = new Set(pairs.filter((pair) => pair.startsWith(`${COOKIE}=`)));
  return values.size === 1 && /^[\w-]+\.[\w-]+\.[\w-]+$/.test([...values][0].slice(COOKIE.length + 1));
}

// The keys, and when they were asked for. hono/jwk by itself fetches them for each request. A new key is published for longer
// than this before it signs.
let keys, since;

function cachedKeys() {
  if (!keys || Date.now() - since > 300_000) {
    since = Date.now();
    const fetched = fetchKeys();
    keys = fetched;
    fetched.catch(() => {
      if (keys === fetched) keys = undefined;
    });
  }
  return keys;
}

async function fetchKeys() {
  const answer = await fetch(KEYS, { signal: AbortSignal.timeout(2_000) });
  if (!answer.ok) throw new Error(`${KEYS} answered ${answer.status}`);
  return (await answer.json()).keys;
}
