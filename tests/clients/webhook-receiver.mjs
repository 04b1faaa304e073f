// npm install standardwebhooks
import { createServer } from 'node:http';
import { Webhook } from 'standardwebhooks';

/**
 * Makes a server that receives events. `take` stores one: it may be given the same `id` again, and what it
 * throws has the event sent again later.
 */
export function receiver(secret, take) {
  const webhook = new Webhook(secret);
  return createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    let event;
    try {
      event = webhook.verify(Buffer.concat(chunks), request.headers);
    } catch {
      response.writeHead(401).end();
      return;
    }
    try {
      await take(event, request.headers['webhook-id']);
      response.writeHead(204).end();
    } catch {
      response.writeHead(500).end();
    }
  });
}
