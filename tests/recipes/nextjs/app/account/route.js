import { claims } from '../claims.mjs';

export const GET = () => claims();
