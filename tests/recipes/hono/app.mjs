// Says which headers of a request claim to be from Guestpass.
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { guestpass } from './guestpass.mjs';

const claims = (context) =>
  context.json(Object.fromEntries(Object.entries(context.req.header()).filter(([name]) => name.includes('guestpass'))));

const app = new Hono();
app.use(guestpass());
app.use('/account/*', guestpass('strict'));
app.get('/', claims);
app.get('/account', claims);
app.get('/public', (context) => {
  context.header('Cache-Control', 'public, max-age=60');
  return claims(context);
});
// The recipe replaces the request: its body must still be there.
app.post('/', async (context) => context.text(await context.req.text()));
serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.env.PORT) });
