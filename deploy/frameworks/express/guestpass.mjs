// Express: recognises the guest of a page that Guestpass keeps in cookies. Needs jose: npm install jose
//
//   app.use(guestpass());                      // soft: without a good token, a request is nobody's
//   app.use('/account', guestpass('strict'));  // strict: without one, it gets 401
//
// What follows finds the guest's sub in the request header x-guestpass-sub, as behind a gateway. The header isn't there for
// nobody, and never comes from the client. No cookie is set here: the page renews its tokens.

import { createRemoteJWKSet, errors, jwtVerify } from 'jose';

const { env } = process;
const ISSUER = env.GUESTPASS_ISSUER ?? 'https://www.shop.example';
const AUDIENCE = env.GUESTPASS_AUDIENCE ?? ISSUER; // of your own service, if it has one: the issuer restricts nothing
const CLIENT = env.GUESTPASS_CLIENT ?? 'shop-web';
const COOKIE = env.GUESTPASS_COOKIE ?? '__Host-guest'; // on loopback over http: guest
const KEYS = env.GUESTPASS_KEYS ?? `${ISSUER}/oauth/jwks`;

const keys = createRemoteJWKSet(new URL(KEYS), { timeoutDuration: 2_000 });

export function guestpass(mode = 'soft') {
  return async (request, response, next) => {
    for (const name of Object.keys(request.headers)) {
      if (/^x[^a-z0-9]guestpass[^a-z0-9]/.test(name)) delete request.headers[name];
    }
    let sub = null;
    try {
      sub = await guestOf(request.headers.cookie);
    } catch (error) {
      console.warn('Guestpass: no keys.', error);
      if (mode === 'strict') return response.status(503).set('Retry-After', '1').send('Unavailable');
    }
    if (sub) {
      request.headers['x-guestpass-sub'] = sub;
      keepPrivate(response);
    } else if (mode === 'strict') {
      return response.status(401).set('WWW-Authenticate', 'Bearer').send('Unauthorized');
    }
    next();
  };
}

// Returns the guest's sub, or null for nobody. Throws if there are no keys now.
async function guestOf(cookies) {
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
    return payload.client_id === CLIENT ? payload.sub : null;
  } catch (error) {
    const noKeys = ['ERR_JWKS_TIMEOUT', 'ERR_JWKS_INVALID', 'ERR_JOSE_GENERIC'];
    if (error instanceof errors.JOSEError && !noKeys.includes(error.code)) return null;
    throw error;
  }
}

// Reads the header as it came, since a parser chooses between two values of one name. One of them may be planted (RFC 6265
// §8.6).
function tokenIn(cookies = '') {
  const pairs = cookies.split(';').map((pair) => pair.replace(/^[ \t]+|[ \t]+$/g, ''));
  const values = new Set(pairs.filter((pair) => pair.startsWith(`${COOKIE}=`)));
  return values.size === 1 ? [...values][0].slice(COOKIE.length + 1) : null;
}

// Marks the answer when its header is written, so that nothing that the shop says lets a shared cache keep it.
function keepPrivate(response) {
  const { writeHead } = response;
  response.writeHead = function (...head) {
    if (!/private|no-store/i.test(this.getHeader('Cache-Control'))) this.setHeader('Cache-Control', 'private');
    return writeHead.apply(this, head);
  };
}
