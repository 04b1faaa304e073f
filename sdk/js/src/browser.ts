// Is what a page loads as /oauth/guestpass.js. Imported so, it does nothing; with a client's id in its address
// (`?client_id=shop-web`) it starts by itself, and asks the server that it has come from.
import { attempted } from './failure.js';
import { createGuest } from './guest.js';

export { createGuest };

const [, server, clientId] = /^(.*?)\/oauth\/.*[?&]client_id=([^&#]*)/.exec(import.meta.url) || [];

export const guest = clientId ? createGuest({ server: server!, clientId: decodeURIComponent(clientId) }) : undefined;

if (guest) {
    // An app has put it there. An element of that id is no ticket, and an address never has one.
    const { guestpassTicket: ticket } = globalThis as { guestpassTicket?: unknown };
    if (typeof ticket === 'string') void attempted(() => guest.adopt(ticket));
    void guest.who();
}
