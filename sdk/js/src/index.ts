export type { Migration } from './cookie-mode.js';
export { createGuest, type Guest, type Listener, type Options, type State } from './guest.js';
export type { Random, Sha256 } from './oauth.js';
export { type SecureStore, secureStore } from './secure-store.js';
export type { Identity } from './session.js';
export { sha256 } from './sha256.js';
export type { Storage } from './storage-mode.js';
