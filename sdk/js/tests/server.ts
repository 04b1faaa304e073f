import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestProject } from 'vitest/node';

/** Is where the pages of the tests come from. */
export const ORIGIN = 'http://127.0.0.1:9000';

const binary = resolve(process.env.GUESTPASS ?? '../../target/debug/guestpass');

declare module 'vitest' {
    export interface ProvidedContext {
        /** The address of a server, and of one whose tokens are long. */
        server: string;
        serverOfLongTokens: string;
        apiKey: string;
    }
}

/** Starts the servers once for all tests. */
export default async function setup(project: TestProject): Promise<() => void> {
    const directory = mkdtempSync(join(tmpdir(), 'guestpass-sdk-'));
    const running: ChildProcess[] = [];
    const stop = () => {
        for (const server of running) server.kill('SIGKILL');
        rmSync(directory, { recursive: true, force: true });
    };
    try {
        const data = join(directory, 'data');
        const { api_key } = JSON.parse(client(data, 'add', 'shop-backend', '--confidential', '--json'));
        client(data, 'add', 'shop-web', '--origin', ORIGIN, '--cookies', 'guest');
        client(data, 'set', 'shop-web', '--ticket-to', 'shop-backend');
        client(data, 'add', 'shop-spa', '--origin', ORIGIN, '--cookies', 'spa');
        client(data, 'set', 'shop-spa', '--page-token');
        client(data, 'add', 'shop-page', '--origin', ORIGIN);
        client(data, 'add', 'shop-app');
        client(data, 'set', 'shop-app', '--ticket-to', 'shop-web', '--ticket-to', 'shop-page');
        project.provide('apiKey', api_key);
        project.provide('server', await serve(data, {}, running));

        const long = join(directory, 'long');
        client(long, 'add', 'shop-app', '--audience', `https://${'long.'.repeat(9)}example`);
        project.provide('serverOfLongTokens', await serve(long, { GUESTPASS_TOKENS__ALGORITHM: 'RS256' }, running));
    } catch (error) {
        stop();
        throw error;
    }
    return stop;
}

function client(data: string, ...parameters: string[]): string {
    const all = ['--data-dir', data, 'client', ...parameters];
    return execFileSync(binary, all, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

async function serve(data: string, settings: Record<string, string>, running: ChildProcess[]): Promise<string> {
    const server = spawn(binary, ['--data-dir', data, 'serve', '--listen', '127.0.0.1:0'], {
        env: { ...process.env, GUESTPASS_LIMITS__MODE: 'off', ...settings },
        stdio: ['ignore', 'pipe', 'ignore'],
    });
    running.push(server);
    for await (const line of createInterface({ input: server.stdout! })) {
        const [, url] = /^listening on (.*)/.exec(line) ?? [];
        if (url) return url;
    }
    throw new Error('the server ended before it listened');
}
