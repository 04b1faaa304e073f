// A certificate authority of the tests' own, and the certificate of the shop's hosts that it has signed.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const HOSTS = ['www.shop.localhost', 'id.shop.localhost', 'evil.shop.localhost', 'other.localhost'];

// Returns the file of the authority's certificate, and the key and certificate for a server.
export function certify(directory) {
  const file = (name) => join(directory, name);
  const key = ['-nodes', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
  const openssl = (...args) => execFileSync('openssl', args, { stdio: 'pipe' });
  openssl(
    ...['req', '-x509', '-days', '2', '-subj', '/CN=Tests of the shop', ...key],
    ...['-addext', 'keyUsage=critical,keyCertSign', '-keyout', file('ca.key'), '-out', file('ca.pem')],
  );
  openssl('req', '-subj', '/CN=shop', ...key, '-keyout', file('shop.key'), '-out', file('shop.csr'));
  writeFileSync(file('shop.ext'), [
    `subjectAltName=${HOSTS.map((host) => `DNS:${host}`).join(',')}`,
    'basicConstraints=critical,CA:FALSE',
    'extendedKeyUsage=serverAuth',
  ].join('\n'));
  openssl(
    ...['x509', '-req', '-days', '2', '-in', file('shop.csr'), '-CA', file('ca.pem'), '-CAkey', file('ca.key')],
    ...['-CAcreateserial', '-extfile', file('shop.ext'), '-out', file('shop.pem')],
  );
  const identity = { key: readFileSync(file('shop.key')), cert: readFileSync(file('shop.pem')) };
  return { authority: file('ca.pem'), identity };
}
