// Programs that run beside the tests: each in a process group of its own, and never as root.
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';

const DEADLINE_MS = 60_000; // longer than any program takes to start on the busiest machine
const root = process.getuid() === 0;
const number = (flag) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));
const nobody = root ? { uid: number('-u'), gid: number('-g') } : {};
const running = new Set();

process.on('exit', () => running.forEach((program) => program.kill('SIGKILL')));

// Makes a home directory for a program; `fill` may put files there.
export function makeHome(directory, fill = () => {}) {
  mkdirSync(directory, { recursive: true });
  fill(directory);
  if (root) execFileSync('chown', ['-R', `${nobody.uid}:${nobody.gid}`, directory]);
  return directory;
}

// Trusts the authority in a database of certificates, as Chromium and Firefox keep them.
export function trust(authority, directory) {
  mkdirSync(directory, { recursive: true });
  const certutil = (...args) => execFileSync('certutil', ['-d', `sql:${directory}`, ...args], { stdio: 'pipe' });
  certutil('-N', '--empty-password');
  certutil('-A', '-n', 'tests', '-t', 'C,,', '-i', authority);
}

// Starts a program and waits until it has printed `ready`, or nothing in particular. Returns the program
// and the first group of what it has printed.
export function start(command, args, { home, env = {}, ready = /^/, as = nobody }) {
  const child = spawn(command, args, {
    ...as,
    cwd: home,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      HOME: home,
      TMPDIR: home,
      XDG_RUNTIME_DIR: home,
      DBUS_SESSION_BUS_ADDRESS: 'disabled:',
      NO_AT_BRIDGE: '1',
      ...env,
    },
  });
  const program = {
    output: '',
    ended: new Promise((resolve) => child.on('close', resolve)),
    kill(signal) {
      try {
        process.kill(-child.pid, signal);
      } catch {
        // It has ended already.
      }
    },
    // Asks it to end by `ask`, else by SIGTERM, and makes sure that all of its group has ended.
    async end(ask = () => program.kill('SIGTERM')) {
      if (!running.has(program)) return;
      await ask();
      await Promise.race([program.ended, elapsed(10_000)]);
      program.kill('SIGKILL');
      await program.ended;
    },
  };
  running.add(program);
  program.ended.then(() => running.delete(program));
  return new Promise((resolve, reject) => {
    const failed = (why) => {
      program.kill('SIGKILL');
      reject(new Error(`${command} ${why}:\n${program.output}`));
    };
    const late = setTimeout(() => failed('is not ready after a minute'), DEADLINE_MS);
    const hear = (text) => {
      program.output = (program.output + text).slice(-20_000);
      const match = ready.exec(program.output);
      if (!match) return;
      clearTimeout(late);
      resolve([program, match[1]]);
    };
    for (const stream of child.stdio.slice(1)) stream.setEncoding('utf8').on('data', hear);
    child.on('spawn', () => hear(''));
    child.on('error', (error) => failed(error.message));
    child.on('close', () => failed('has ended'));
  });
}

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function elapsed(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref());
}
