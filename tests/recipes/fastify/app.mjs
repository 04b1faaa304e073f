// Says which headers of a request claim to be from Guestpass.
import fastify from 'fastify';
import { guestpass } from './guestpass.mjs';

const claims = async ({ headers }) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => name.includes('guestpass')));

const app = fastify();
app.register(guestpass);
app.register(async (shop) => {
  shop.get('/', claims);
  shop.get('/public', (request, reply) => claims(request, reply.header('Cache-Control', 'public, max-age=60')));
});
app.register(async (account) => {
  account.register(guestpass, { mode: 'strict' });
  account.get('/account', claims);
});
await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) });
