// Runs in the shop's pages: what a shop would write around the helper, with handles for the tests.
import { createGuest } from '/guestpass.js';

// The device's clock is wrong by this many milliseconds.
window.skew = 0;
const realNow = Date.now;
Date.now = () => realNow() + window.skew;

window.consented = true;
window.changes = [];

// Each is what a browser may give to a page.
const storages = {
  local: () => localStorage,
  unreadable: () => ({ ...nothing, getItem: denied }),
  unwritable: () => ({ ...nothing, setItem: denied }),
  forgetful: () => nothing,
  // Never says that it has stored a guest.
  hanging: () => ({
    getItem: (key) => localStorage.getItem(key),
    setItem: (key, value) => (value.includes('"r":') ? new Promise(() => {}) : localStorage.setItem(key, value)),
    removeItem: (key) => localStorage.removeItem(key),
  }),
};
const nothing = { getItem: () => null, setItem() {}, removeItem() {} };

function denied() {
  throw new DOMException('denied', 'SecurityError');
}

// Where the documents' page without the helper has kept its tokens.
const migrate = {
  get: () => JSON.parse(localStorage.getItem('guest'))?.refresh_token ?? null,
  remove: () => localStorage.removeItem('guest'),
};

window.begin = ({ clientId = 'shop-web', storage, migrates, ...options } = {}) => {
  window.guest = createGuest({
    ...{ clientId, consent: () => window.consented, ...options },
    ...(storage && { storage: storages[storage]() }),
    ...(migrates && { migrate }),
  });
  window.guest.onChange((identity) => window.changes.push(identity && identity.sub));
};

window.who = async () => {
  const identity = await window.guest.who();
  return { sub: identity && identity.sub, state: window.guest.state };
};

window.report = (value) => {
  window.reported = fetch('/report', { method: 'POST', body: JSON.stringify(value) });
  return window.reported;
};

// Begins when it is told to on a channel: several pages at the same moment. Says whether the first request
// went out before a timer of 1.5 s that started with the question; on a busy machine both are late.
window.beginWhenTold = () => {
  window.consented = false;
  window.told = new Promise((resolve) => {
    new BroadcastChannel('tests').onmessage = () => {
      window.consented = true;
      const late = new Promise((done) => setTimeout(done, 1500, false));
      const sent = new Promise((done) => (window.sent = () => done(true)));
      const found = Promise.all([window.who(), Promise.race([sent, late])]);
      resolve(found.then(([identity, inTime]) => ({ ...identity, inTime })));
    };
  });
};
const realFetch = window.fetch;
window.fetch = (...args) => {
  window.sent?.();
  return realFetch(...args);
};
