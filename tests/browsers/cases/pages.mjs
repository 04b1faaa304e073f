// What runs in the pages themselves. Each function is sent as text, so it uses nothing but its arguments
// and the page.

// Asks for a guest as the simplest page would.
export async function ensure(clientId, server = '', more = {}) {
  const body = new URLSearchParams({ client_id: clientId, ...more });
  const answer = await fetch(`${server}/oauth/session`, { method: 'POST', body, credentials: 'include' });
  return { status: answer.status, ...(await answer.json()) };
}

// Withdraws consent, and returns the status.
export async function withdraw(clientId) {
  const answer = await fetch(`/oauth/session?client_id=${clientId}`, { method: 'DELETE', credentials: 'include' });
  return answer.status;
}

// Sends a request to another host of which the page sees nothing: 'sent', or why the browser did not let it.
export async function sendBlindly(url, options) {
  const { form, ...rest } = options;
  const body = form && new URLSearchParams(form);
  try {
    const answer = await fetch(url, { credentials: 'include', body, ...rest });
    return answer.type === 'opaque' ? 'sent' : `read ${answer.status}`;
  } catch (error) {
    return error.name;
  }
}

// Leaves the page by sending a form.
export function submitForm(action, fields) {
  const form = document.createElement('form');
  Object.assign(form, { method: 'post', action });
  for (const [name, value] of Object.entries(fields)) {
    form.append(Object.assign(document.createElement('input'), { type: 'hidden', name, value }));
  }
  document.body.append(form);
  setTimeout(() => form.submit(), 0);
}

// Leaves the page by a link.
export function follow(href) {
  const link = document.createElement('a');
  Object.assign(link, { href, textContent: 'link' });
  document.body.append(link);
  setTimeout(() => link.click(), 0);
}

export function text() {
  return document.body.innerText;
}

export const sendsSession = (method) => (seen) => seen.method === method && seen.url.includes('/oauth/session');
