// Says which headers of a request claim to be from Guestpass.
import express from 'express';
import { guestpass } from './guestpass.mjs';

const claims = (request, response) =>
  response.json(Object.fromEntries(Object.entries(request.headers).filter(([name]) => name.includes('guestpass'))));

const app = express();
app.use(guestpass());
app.get('/', claims);
app.get('/account', guestpass('strict'), claims);
app.get('/public', (request, response) => claims(request, response.set('Cache-Control', 'public, max-age=60')));
app.listen(process.env.PORT, '127.0.0.1');
