import { claims } from '../claims.mjs';

export const GET = () => claims({ headers: { 'Cache-Control': 'public, max-age=60' } });
