// Usage: node tls-front.mjs URL COMMAND [ARGUMENT...]
//
// Runs COMMAND behind a front on https://localhost:PORT that hands every request on to URL. The
// command gets `localhost:PORT` as its last argument, and trusts the front's new self-signed
// certificate besides the usual ones: verification stays on. Each request leaves a line on stderr
// that says what was sent, by name and without the values.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [target, program, ...args] = process.argv.slice(2);
const directory = mkdtempSync(join(tmpdir(), 'tls-front-'));
process.on('exit', () => rmSync(directory, { recursive: true }));
const keyFile = join(directory, 'key.pem');
const certFile = join(directory, 'cert.pem');
execFileSync('openssl', [
  ...['req', '-x509', '-days', '1', '-subj', '/CN=localhost'],
  ...['-addext', 'subjectAltName=DNS:localhost', '-nodes', '-newkey', 'ec'],
  ...['-pkeyopt', 'ec_paramgen_curve:P-256', '-keyout', keyFile, '-out', certFile],
], { stdio: 'pipe' });

const identity = { key: readFileSync(keyFile), cert: readFileSync(certFile) };
const front = https.createServer(identity, (request, response) => {
  const { method, url, headers } = request;
  const onward = http.request(new URL(url, target), { method, headers }, (answer) => {
    console.error(`${describe(request)} -> ${answer.statusCode}`);
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  onward.on('error', (error) => {
    console.error(`${describe(request)} -> ${error.message}`);
    response.destroy();
  });
  request.pipe(onward);
});

front.listen(0, '127.0.0.1', () => {
  const command = spawn(program, [...args, `localhost:${front.address().port}`], {
    env: { ...process.env, NODE_EXTRA_CA_CERTS: certFile },
    stdio: 'inherit',
  });
  command.on('exit', (code) => process.exit(code ?? 1));
});

function describe({ method, url, headers }) {
  const { pathname, searchParams } = new URL(url, target);
  const sent = Object.entries(headers).map(([name, value]) => {
    return name.startsWith('content-') ? `${name}: ${value}` : name;
  });
  return `${method} ${pathname}?${[...searchParams.keys()].join('&')} (${sent.join(', ')})`;
}
