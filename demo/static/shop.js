// What the shop's pages do with Guestpass. The guest is in cookies that no script can read: the page only asks for it, and
// the server knows it by itself from then on.
import { createGuest } from '/oauth/guestpass.js';

const find = (id) => document.getElementById(id);
const served = document.body.dataset;
const hasConsent = () => /(?:^|;\s*)shop_consent=yes(?:;|$)/.test(document.cookie);

const guest = createGuest({ clientId: 'shop-web', consent: hasConsent, fetch: watchedFetch });

let expiresIn = 0;

/** Lets the panel say what the requests to Guestpass came to. */
async function watchedFetch(address, options) {
  const answer = await fetch(address, options);
  const said = await answer.clone().json().catch(() => ({}));
  expiresIn = said.expires_in || expiresIn;
  if (options.method === 'DELETE') {
    if (answer.ok) tell('Forgotten', 'nobody', find('erase').checked
      ? 'Guestpass has erased the guest and cleared `guest` and `guest-r`. That `sub` never comes back.'
      : 'Guestpass has ended the session and cleared `guest` and `guest-r`. Nobody can go on as this guest here.');
  } else if (answer.status === 202) {
    tell('Asked', 'soon', 'Guestpass has put a cookie into your browser, `guest-s`, and stored nothing yet. It makes a '
      + 'guest only for a browser that brings the cookie back.');
  } else if (said.new) {
    tell('Guest made', 'made', `Your browser brought it back, and is guest \`${said.sub}\` now. Two cookies say so: \`guest\`, `
      + `an access token for ${said.expires_in} seconds (here; else a day), and \`guest-r\`, the refresh token for a year.`);
  } else if (answer.ok && served.knownBy === 'refresh') {
    tell('Renewed', 'known', 'The page has loaded, and Guestpass has set both cookies anew. `sub` is the same.');
    served.knownBy = 'access';
  }
  return answer;
}

/** Adds a line to the panel. What stands between backquotes is code. */
function tell(word, kind, text) {
  const line = document.createElement('li'), tag = document.createElement('b');
  tag.className = `tag ${kind}`;
  tag.textContent = word;
  line.append(tag, ' ');
  text.split('`').forEach((part, place) => {
    const node = document.createElement(place % 2 ? 'code' : 'span');
    node.textContent = part;
    line.append(node);
  });
  find('steps').append(line);
}

/** Shows who the page says it is, where the server has said something else or nothing. */
function show(identity) {
  const isLoggedIn = Boolean(find('logout'));
  if ((identity?.sub || '') === served.sub) return;
  served.sub = identity?.sub || '';
  fact('sub', identity?.sub, 'nobody');
  fact('token-customer', null, 'not said');
  fact('cookies', identity && 'guest, guest-r', 'none');
  if (!isLoggedIn) {
    find('greeting').textContent = identity ? `Nice to meet you, guest\u00a0${identity.sub.slice(-4)}` : 'Hello, whoever you are';
    const lines = find('basket-lines');
    if (lines) lines.textContent = 'Empty.';
  }
  if (identity) tell('Next', 'soon', 'Reload: the server will greet you by itself, before any script has run.');
}

function fact(id, text, otherwise) {
  const node = document.createElement(text ? 'code' : 'span');
  node.className = text ? '' : 'quiet';
  node.textContent = text || otherwise;
  find(id).replaceChildren(node);
}

async function recognise() {
  const identity = await guest.who();
  const why = {
    blocked: 'Your browser keeps no cookies of this page, so no guest was made for it.',
    waiting: 'Guestpass can’t be reached just now. The shop goes on without it, and the page tries again later.',
    misconfigured: 'Guestpass has refused the page; the console says why.',
  }[guest.state];
  if (!identity && why) tell('Nobody', 'nobody', why);
  return identity;
}

function choose(consent) {
  document.cookie = `shop_consent=${consent}; Path=/; Max-Age=15552000; SameSite=Lax`;
  showChoice();
}

function showChoice(isKnown = hasConsent()) {
  find('banner').hidden = true;
  const choice = isKnown ? 'accepted' : 'declined';
  for (const part of document.querySelectorAll('[data-when]')) part.hidden = part.dataset.when !== choice;
}

find('accept').addEventListener('click', async () => {
  choose('yes');
  tell('Accepted', 'own', 'The shop has noted it in a cookie of its own, `shop_consent`. Now the page asks Guestpass for a '
    + 'guest.');
  find('greeting').focus();
  await recognise();
});

find('decline').addEventListener('click', () => {
  choose('no');
  find('greeting').focus();
  tell('Declined', 'nobody', 'The shop has noted it in `shop_consent`. Guestpass has heard nothing of you.');
});

find('choose').addEventListener('click', () => {
  find('banner').hidden = false;
  find('accept').focus();
});

find('withdraw').addEventListener('click', async ({ target }) => {
  target.disabled = true;
  try {
    // First the shop, as long as it is told whose basket to forget.
    await fetch('/forget', { method: 'POST' });
    choose('no');
    await guest.withdraw({ erase: find('erase').checked });
    find('greeting').focus();
  } catch ({ code }) {
    // The cookies are still there, and so is the button.
    showChoice(true);
    fact('cookies', 'guest, guest-r');
    tell('Not yet', 'nobody', `Guestpass couldn’t be reached (\`${code}\`). Please press Withdraw again.`);
  }
  target.disabled = false;
});

find('login-form')?.addEventListener('submit', async (submission) => {
  submission.preventDefault();
  const form = submission.target;
  // Somebody else's guest stays behind.
  if ('newGuest' in form.dataset) await guest.withdraw().catch(() => {});
  // The form takes the access token along, so it must not be about to run out.
  if (hasConsent()) await guest.who();
  form.submit();
});

/** Waits for the token that names the customer, to show it. Pages of a shop have no need to. */
async function awaitLabel() {
  for (let turns = 0; turns < 3; turns++) {
    await new Promise((resolve) => setTimeout(resolve, expiresIn * 750 + 500));
    await guest.who();
    const { customer } = await (await fetch('/whoami')).json();
    if (!customer) continue;
    fact('token-customer', customer);
    return tell('Renewed', 'linked', `Here is the next access token, and it says customer \`${customer}\`. The server reads it `
      + 'with every request from now on.');
  }
}

guest.onChange((identity) => {
  show(identity);
  // Perhaps another tab has said so.
  if (!identity) showChoice();
});
// A page out of the back-forward cache may show who has logged out since.
addEventListener('pageshow', ({ persisted }) => persisted && location.reload());
// The address has said what was done. A reload shall not say it again.
if (location.search) history.replaceState(null, '', location.pathname);
if (hasConsent()) {
  await recognise();
  if (served.awaits) await awaitLabel();
}
